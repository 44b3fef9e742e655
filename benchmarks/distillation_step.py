"""One distillation step, undo_jax against transformers' Gemma 2 in PyTorch.

COMMAND, an hour or more on 2 CPU cores:

  python -m benchmarks.distillation_step --rounds=5

A step is the teacher's forward pass, the student's forward and backward pass of
the forward KL over the vocabulary, clipping to global norm 1 and AdamW, in
float32. PyTorch runs it eagerly, and with the loss (teacher, student, KL) under
torch.compile; the table's ratio is to the faster of the two. All sides have the same
weights and batch; before anything is timed, their logits, losses, gradient norms and
weights after a few steps are checked to agree.

Each side runs in fresh processes, the sides by turns. Compilation and warm-up are not
timed. Needs the extra `bench` (PyTorch, transformers, psutil), and a C++ compiler.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import common, pytorch, sizes
from undo_jax.models.config import ModelConfig, num_params
from undo_jax.utils import tables

SIDES = ("undo_jax", "eager", "compiled")
MODULE = "benchmarks.distillation_step"
PACKAGES = "jax jaxlib flax optax torch transformers numpy".split()
LEARNING_RATE = 1e-3
CHECKED_STEPS = 3  # Steps after which both sides' weights are compared.


@dataclasses.dataclass(frozen=True)
class Size:
  """A model and its batch: rows of `length` tokens."""

  model: ModelConfig
  batch_size: int
  length: int
  num_steps: int  # Timed in one round.

  @property
  def tokens(self) -> int:
    """Tokens in a step."""
    return self.batch_size * self.length


SIZES = {
  "tiny": Size(sizes.TINY, batch_size=128, length=16, num_steps=60),
  "middle": Size(sizes.MIDDLE, batch_size=64, length=64, num_steps=20),
  "large": Size(sizes.LARGE, batch_size=16, length=128, num_steps=10),
  "largest": Size(sizes.LARGEST, batch_size=8, length=128, num_steps=6),
}

_SIZES = flags.DEFINE_list("sizes", list(SIZES), "Some of: " + ", ".join(SIZES))
_ALLOCATOR = flags.DEFINE_list(
  "allocator",
  list(common.ALLOCATORS),
  "Some of: default (each side as it comes: undo_jax with the settings of its "
  "launcher, PyTorch with none), tcmalloc (preloaded for both), mallopt (the "
  "launcher's settings for both).",
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Processes of each side.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", None, "Timed steps of a process, for all sizes.")
_PATIENCE = flags.DEFINE_float(
  "patience",
  0.0,
  "Seconds that each process may wait for an idle machine and be run again where "
  "others disturbed it.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")
_WORKER = flags.DEFINE_enum(
  "worker", None, [*SIDES, "check"], "Internal: be the process of one side."
)
_INPUTS = flags.DEFINE_string("inputs", None, "Internal: weights and batch.")
_REPORT = flags.DEFINE_string("report", None, "Internal: where a worker answers.")


# MARK: inputs, shared by all sides


def write_inputs(path: pathlib.Path, size: Size) -> None:
  """Write the weights of teacher and student and a batch, as one .npz file."""
  import jax
  import numpy as np

  from undo_jax.models.gemma2 import Gemma2
  from undo_jax.utils import trees

  init = jax.jit(Gemma2(size.model).init)
  arrays = {}
  for seed, role in enumerate(("teacher", "student")):
    params = {role: init(jax.random.key(seed))}
    trees.map_with_path(lambda name, x: arrays.update({name: np.asarray(x)}), params)
  shape = (size.batch_size, size.length)
  rng = np.random.default_rng(0)
  arrays["inputs"] = rng.integers(0, size.model.vocab_size, shape, np.int32)
  np.savez(path, **arrays)


def read_inputs(path: str) -> dict[str, Any]:
  """Return {"teacher": weights, "student": weights, "inputs": tokens}, nested."""
  import numpy as np

  tree: dict[str, Any] = {}
  with np.load(path) as arrays:
    for name, array in arrays.items():
      *parents, leaf = name.split("/")
      node = tree
      for parent in parents:
        node = node.setdefault(parent, {})
      node[leaf] = array
  return tree


# MARK: undo_jax


class JaxSide:
  """The program that the library's own training stages run."""

  def __init__(self, size: Size, inputs: dict[str, Any]):
    import jax
    import numpy as np

    from undo_jax.distributed import sharding
    from undo_jax.running import programs
    from undo_jax.training.optimizers import OptimizerConfig

    mesh = sharding.make_mesh()
    training = programs.training(
      size.model,
      mesh,
      "forward_kl",
      (),
      OptimizerConfig(learning_rate=LEARNING_RATE, num_steps=1_000_000),
      1,
    )
    student, teacher = (
      jax.device_put(inputs[role], sharding.replicated(mesh))
      for role in ("student", "teacher")
    )
    tokens = inputs["inputs"]
    mask = np.ones(tokens.shape, np.float32)
    batch = {"inputs": tokens, "targets": tokens, "mask": mask}
    self._size = size
    self._step = training.step
    self._frozen = {"teacher": teacher}
    self._batch = sharding.put_batch(batch, mesh)
    self._key = jax.random.key(0)
    self.state = training.create(student)

  def logits(self) -> Any:
    """Return the student's logits as a NumPy array."""
    import jax
    import numpy as np

    from undo_jax.models.gemma2 import Gemma2

    apply = jax.jit(Gemma2(self._size.model).apply)
    return np.asarray(apply(self.state.params, self._batch["inputs"]).logits)

  def weights(self) -> dict[str, Any]:
    """Return the student's weights under transformers' names, as NumPy arrays."""
    import jax

    return torch_weights(jax.device_get(self.state.params))

  def step(self) -> tuple[float, float]:
    """Do one step to its end; return the loss before it and its gradient's norm."""
    import jax

    self.state, metrics = self._step(self.state, self._frozen, self._batch, self._key)
    jax.block_until_ready((self.state, metrics))
    return float(metrics["loss"]), float(metrics["gradient_norm"])


# MARK: PyTorch


class TorchSide:
  """The same step as a PyTorch user writes it, in its fastest variant."""

  def __init__(self, size: Size, inputs: dict[str, Any], is_compiled: bool):
    import torch

    torch.set_num_threads(common.num_cores())
    self.student = torch_model(size.model, inputs["student"]).train()
    self._teacher = torch_model(size.model, inputs["teacher"]).eval()
    self._optimizer = torch.optim.AdamW(
      self.student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
    )
    self._tokens = torch.from_numpy(inputs["inputs"]).long()
    self._loss = self._divergence
    if is_compiled:
      self._loss = torch.compile(self._divergence, dynamic=False)

  def logits(self) -> Any:
    """Return the student's logits as a NumPy array."""
    import torch

    with torch.no_grad():
      return self.student(self._tokens, use_cache=False).logits.numpy()

  def weights(self) -> dict[str, Any]:
    """Return the student's weights as NumPy arrays."""
    return {name: x.numpy() for name, x in self.student.state_dict().items()}

  def step(self) -> tuple[float, float]:
    """Do one step; return the loss before it and its gradient's norm."""
    loss = self._loss(self._tokens)
    return pytorch.update(loss, self.student, self._optimizer)

  def _divergence(self, tokens):
    import torch

    with torch.no_grad():
      teacher = pytorch.logits(self._teacher, tokens)
    return pytorch.forward_kl(pytorch.logits(self.student, tokens), teacher)


def torch_model(config: ModelConfig, params: dict[str, Any]) -> Any:
  """Return transformers' Gemma 2 with the given weights."""
  import torch
  import transformers

  model = transformers.Gemma2ForCausalLM(pytorch.gemma2_config(config))
  weights = {name: torch.tensor(array) for name, array in torch_weights(params).items()}
  missing, unexpected = model.load_state_dict(weights, strict=False)
  if unexpected or set(missing) - {"lm_head.weight"}:  # Tied to the embedding.
    raise RuntimeError(f"weights do not fit: {missing=}, {unexpected=}")
  return model


def torch_weights(params: dict[str, Any]) -> dict[str, Any]:
  """Return undo_jax's weights under transformers' names, matrices transposed."""
  layers = params["layers"]
  kernels = {
    "self_attn.q_proj": layers["attention"]["query"],
    "self_attn.k_proj": layers["attention"]["key"],
    "self_attn.v_proj": layers["attention"]["value"],
    "self_attn.o_proj": layers["attention"]["out"],
    "mlp.gate_proj": layers["mlp"]["gate"],
    "mlp.up_proj": layers["mlp"]["up"],
    "mlp.down_proj": layers["mlp"]["down"],
  }
  scales = {
    "input_layernorm": layers["pre_attention_norm"],
    "post_attention_layernorm": layers["post_attention_norm"],
    "pre_feedforward_layernorm": layers["pre_mlp_norm"],
    "post_feedforward_layernorm": layers["post_mlp_norm"],
  }
  weights = {
    "model.embed_tokens.weight": params["embedding"],
    "model.norm.weight": params["final_norm"]["scale"],
  }
  for name, node in kernels.items():
    for index, kernel in enumerate(node["kernel"]):
      weights[f"model.layers.{index}.{name}.weight"] = kernel.T.copy()
  for name, node in scales.items():
    for index, scale in enumerate(node["scale"]):
      weights[f"model.layers.{index}.{name}.weight"] = scale
  return weights


# MARK: workers


def side_of(name: str, size: Size, inputs: dict[str, Any]) -> Any:
  """Return a side, ready for its first step."""
  if name == "undo_jax":
    return JaxSide(size, inputs)
  return TorchSide(size, inputs, is_compiled=name == "compiled")


def check(size: Size, inputs: dict[str, Any]) -> dict[str, dict[str, float]]:
  """Assert that all sides do the same work; return the others' differences."""
  ours = side_of("undo_jax", size, inputs)
  logits = ours.logits()
  steps = [ours.step() for _ in range(CHECKED_STEPS)]
  weights, results = ours.weights(), {}
  for name in SIDES[1:]:
    theirs = side_of(name, size, inputs)
    results[name] = {
      "logits": _logits_apart(name, logits, theirs.logits()),
      **_steps_apart(name, steps, [theirs.step() for _ in range(CHECKED_STEPS)]),
      "updates": _updates_apart(name, inputs, weights, theirs.weights()),
    }
  return results


def _logits_apart(name, ours, theirs):
  """Return the largest difference of two sides' logits."""
  import numpy as np

  largest = float(np.max(np.abs(ours - theirs)))
  if not largest < 1e-4:
    raise AssertionError(f"{name}: the logits differ by {largest}")
  return largest


def _steps_apart(name, ours, theirs):
  """Return by what share losses and gradient norms of the first steps differ."""
  differences = {}
  for index, what in enumerate(("loss", "gradient_norm")):
    pairs = [(a[index], b[index]) for a, b in zip(ours, theirs, strict=True)]
    differences[what] = max(abs(a - b) / abs(b) for a, b in pairs)
    if not differences[what] < 1e-3:
      raise AssertionError(f"{name}: {what} of the first steps differ: {pairs}")
  return differences


def _updates_apart(name, inputs, ours, theirs):
  """Return the distance of two sides' weights over the way that one has gone.

  Adam's first updates are nearly signs: an entry whose gradient is rounding noise may
  go either way, so it is the whole that must agree.
  """
  import numpy as np

  start = torch_weights(inputs["student"])
  apart = sum(float(np.sum((theirs[k] - v) ** 2)) for k, v in ours.items())
  path = sum(float(np.sum((start[k] - v) ** 2)) for k, v in ours.items())
  share = (apart / path) ** 0.5
  if not share < 0.05:
    raise AssertionError(f"{name}: the updates of the weights differ by {share:.1%}")
  return share


def measure(side: Any, num_steps: int) -> dict[str, Any]:
  """Return the milliseconds of every step, and what others used of the machine."""
  for _ in range(5):  # Compilation, and the allocator's growth.
    side.step()
  times = []
  with common.Stopwatch() as watch:
    for _ in range(num_steps):
      start = time.perf_counter()
      side.step()
      times.append(1e3 * (time.perf_counter() - start))
  return {"milliseconds": times, "others": watch.others}


def work(name: str, size: Size) -> dict[str, Any]:
  """Is the process of one side, or of the check."""
  (chosen,) = _ALLOCATOR.value
  if (chosen, name) == ("default", "undo_jax"):
    common.as_launched()
  elif chosen == "mallopt":
    from undo_jax.utils import allocator

    if not allocator.keep_freed_memory():
      raise RuntimeError("this C library does not take the settings of mallopt")
  inputs = read_inputs(_INPUTS.value)
  if name == "check":
    return check(size, inputs)
  return measure(side_of(name, size, inputs), _STEPS.value or size.num_steps)


# MARK: the comparison


def compare(name: str, inputs: pathlib.Path, allocator: str) -> dict[str, Any]:
  """Run all rounds of a size with an allocator."""
  arguments = {"sizes": name, "inputs": inputs, "allocator": allocator}
  if _STEPS.value:
    arguments["steps"] = _STEPS.value
  rounds = []
  for number in range(_ROUNDS.value):
    answers = {
      side: common.run_undisturbed(
        MODULE,
        {**arguments, "worker": side},
        allocator=allocator,
        patience=_PATIENCE.value,
      )
      for side in SIDES
    }
    rounds.append(answers)
    times = ", ".join(
      f"{side} {_median(answer):.1f} ms" for side, answer in answers.items()
    )
    others = max(answer["others"] for answer in answers.values())
    print(
      f"{name}, {allocator}, round {number + 1}: {times}; others used "
      f"{others:.2f} cores",
      file=sys.stderr,
    )
  return {"size": name, "allocator": allocator, "rounds": rounds}


def _median(answer):
  return statistics.median(answer["milliseconds"])


def row(result: dict[str, Any]) -> list[str]:
  """Return a result as a row of the table; see `HEADER`."""
  size, rounds = SIZES[result["size"]], result["rounds"]
  medians = {side: [_median(answers[side]) for answers in rounds] for side in SIDES}
  ours, *others = (medians[side] for side in SIDES)
  faster = [min(times) for times in zip(*others, strict=True)]  # Of each round.
  return [
    f"{num_params(size.model) / 1e6:.2f} M",
    f"{size.batch_size} x {size.length}",
    result["allocator"],
    *(f"{statistics.median(medians[side]):.1f}" for side in SIDES),
    common.spread([b / a for a, b in zip(ours, faster, strict=True)]),
    str(len(rounds)),
    f"{max(answers[side]['others'] for answers in rounds for side in SIDES):.2f}",
  ]


HEADER = (
  "parameters",
  "batch",
  "allocator",
  "undo_jax, ms",
  "PyTorch eager, ms",
  "torch.compile, ms",
  "times as fast as the faster (min..max)",
  "rounds",
  "others' cores",
)


def main(argv: list[str]) -> None:
  """Print the table of all sizes and allocators."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("torch", "transformers", "psutil")
  common.use_cpu()
  if _WORKER.value:
    (name,) = _SIZES.value
    common.report(_REPORT.value, work(_WORKER.value, SIZES[name]))
    return
  results, checks = [], {}
  with tempfile.TemporaryDirectory() as directory:
    # Later rounds find what torch.compile made in the first; nothing of before does.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(pathlib.Path(directory) / "compiled")
    for name in _SIZES.value:
      inputs = pathlib.Path(directory) / f"{name}.npz"
      write_inputs(inputs, SIZES[name])
      arguments = {"sizes": name, "inputs": inputs, "allocator": "default"}
      checks[name] = common.run_worker(MODULE, {**arguments, "worker": "check"})
      print(f"{name}: all sides agree, {json.dumps(checks[name])}", file=sys.stderr)
      for allocator in common.available_allocators(_ALLOCATOR.value):
        results.append(compare(name, inputs, allocator))
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, [row(result) for result in results]))
  print("\n" + common.machine_text(machine))
  measured = {name: dataclasses.asdict(SIZES[name]) for name in _SIZES.value}
  common.write_json(
    _OUTPUT.value,
    {"machine": machine, "sizes": measured, "checks": checks, "results": results},
  )


if __name__ == "__main__":
  app.run(main)
