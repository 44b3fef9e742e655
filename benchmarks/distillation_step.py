"""One distillation step, undo_jax against transformers' Gemma 2 in PyTorch.

COMMAND, tens of minutes on 2 CPU cores:

  python -m benchmarks.distillation_step --rounds=5

A step is the teacher's forward pass, the student's forward and backward pass of
the forward KL over the vocabulary, clipping to global norm 1 and AdamW, in
float32. Both sides have the same weights and batch; before anything is timed,
their logits, loss and weights after a few steps are checked to agree.

Each side runs in fresh processes, the two by turns. Compilation and warm-up are not
timed. Needs the extra `bench` (PyTorch, transformers, psutil).
"""

import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import common, pytorch
from benchmarks.sizes import SMALL, TINY
from undo_jax.models.config import ModelConfig, num_params
from undo_jax.utils import tables

SIDES = ("undo_jax", "pytorch")
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


def _sizes() -> dict[str, Size]:
  small_model = dataclasses.replace(SMALL, scan_unroll=8)
  middle_model = dataclasses.replace(
    small_model,
    num_layers=6,
    width=128,
    num_heads=4,
    num_kv_heads=2,
    mlp_width=512,
  )
  return {
    "tiny": Size(TINY, batch_size=128, length=16, num_steps=60),
    "middle": Size(middle_model, batch_size=64, length=64, num_steps=20),
    "large": Size(
      dataclasses.replace(small_model, num_layers=8),
      batch_size=16,
      length=128,
      num_steps=10,
    ),
  }


SIZES = _sizes()

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


# MARK: inputs, shared by both sides


def write_inputs(path: pathlib.Path, size: Size) -> None:
  """Writes the weights of teacher and student and a batch, as one .npz file."""
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
  """Returns {"teacher": weights, "student": weights, "inputs": tokens}, nested."""
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
    """Returns the student's logits as a NumPy array."""
    import jax
    import numpy as np

    from undo_jax.models.gemma2 import Gemma2

    apply = jax.jit(Gemma2(self._size.model).apply)
    return np.asarray(apply(self.state.params, self._batch["inputs"]).logits)

  def step(self) -> Any:
    """Does one step to its end; returns the loss before it."""
    import jax

    self.state, metrics = self._step(self.state, self._frozen, self._batch, self._key)
    jax.block_until_ready((self.state, metrics))
    return metrics["loss"]


# MARK: PyTorch


class TorchSide:
  """The same step as a PyTorch user writes it, in its fastest eager variant."""

  def __init__(self, size: Size, inputs: dict[str, Any]):
    import torch

    torch.set_num_threads(common.num_cores())
    self.student = torch_model(size.model, inputs["student"]).train()
    self._teacher = torch_model(size.model, inputs["teacher"]).eval()
    self._optimizer = torch.optim.AdamW(
      self.student.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True
    )
    self._tokens = torch.from_numpy(inputs["inputs"]).long()

  def logits(self) -> Any:
    """Returns the student's logits as a NumPy array."""
    import torch

    with torch.no_grad():
      return self.student(self._tokens, use_cache=False).logits.numpy()

  def step(self) -> Any:
    """Does one step; returns the loss before it."""
    import torch

    with torch.no_grad():
      teacher = pytorch.logits(self._teacher, self._tokens)
    student = pytorch.logits(self.student, self._tokens)
    loss = pytorch.forward_kl(student, teacher)
    return pytorch.update(loss, self.student, self._optimizer)


def torch_model(config: ModelConfig, params: dict[str, Any]) -> Any:
  """Returns transformers' Gemma 2 with the given weights."""
  import torch
  import transformers

  c = config
  model = transformers.Gemma2ForCausalLM(
    transformers.Gemma2Config(
      vocab_size=c.vocab_size,
      hidden_size=c.width,
      intermediate_size=c.mlp_width,
      num_hidden_layers=c.num_layers,
      num_attention_heads=c.num_heads,
      num_key_value_heads=c.num_kv_heads,
      head_dim=c.head_dim,
      query_pre_attn_scalar=int(c.query_pre_attn_scalar),
      attn_logit_softcapping=c.attention_softcap,
      final_logit_softcapping=c.logit_softcap,
      sliding_window=c.sliding_window,
      rms_norm_eps=c.norm_epsilon,
      max_position_embeddings=8192,
      attn_implementation="eager",
      dtype="float32",
      pad_token_id=None,
    )
  )
  weights = {name: torch.tensor(array) for name, array in torch_weights(params).items()}
  missing, unexpected = model.load_state_dict(weights, strict=False)
  if unexpected or set(missing) - {"lm_head.weight"}:  # Tied to the embedding.
    raise RuntimeError(f"weights do not fit: {missing=}, {unexpected=}")
  return model


def torch_weights(params: dict[str, Any]) -> dict[str, Any]:
  """Returns undo_jax's weights under transformers' names, matrices transposed."""
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


def check(size: Size, inputs: dict[str, Any]) -> dict[str, float]:
  """Asserts that both sides do the same work; returns the differences."""
  import jax
  import numpy as np

  ours, theirs = JaxSide(size, inputs), TorchSide(size, inputs)
  logits = float(np.max(np.abs(ours.logits() - theirs.logits())))
  if not logits < 1e-4:
    raise AssertionError(f"the logits differ by {logits}")
  losses = [(float(ours.step()), float(theirs.step())) for _ in range(CHECKED_STEPS)]
  loss = max(abs(a - b) / abs(b) for a, b in losses)
  if not loss < 1e-3:
    raise AssertionError(f"the losses of the first steps differ: {losses}")
  expected = torch_weights(jax.device_get(ours.state.params))
  found = theirs.student.state_dict()
  moved = torch_weights(inputs["student"])
  # Adam's first updates are nearly signs: an entry whose gradient is rounding
  # noise may go either way, so it is the whole that must agree.
  apart = sum(float(np.sum((found[k].numpy() - v) ** 2)) for k, v in expected.items())
  path = sum(float(np.sum((moved[k] - v) ** 2)) for k, v in expected.items())
  weights = (apart / path) ** 0.5
  if not weights < 0.05:
    raise AssertionError(f"the updates of the weights differ by {weights:.1%}")
  return {"logits": logits, "loss": loss, "updates": weights}


def measure(side: Any, num_steps: int) -> dict[str, Any]:
  """Returns the milliseconds of every step, and what others used of the machine."""
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
  side = (JaxSide if name == "undo_jax" else TorchSide)(size, inputs)
  return measure(side, _STEPS.value or size.num_steps)


# MARK: the comparison


def compare(name: str, inputs: pathlib.Path, allocator: str) -> dict[str, Any]:
  """Runs all rounds of a size with an allocator."""
  arguments = {"sizes": name, "inputs": inputs, "allocator": allocator}
  if _STEPS.value:
    arguments["steps"] = _STEPS.value
  rounds = []
  for number in range(_ROUNDS.value):
    found = {
      side: common.run_undisturbed(
        "benchmarks.distillation_step",
        {**arguments, "worker": side},
        allocator=allocator,
        patience=_PATIENCE.value,
      )
      for side in SIDES
    }
    rounds.append(found)
    medians = [statistics.median(found[side]["milliseconds"]) for side in SIDES]
    others = max(found[side]["others"] for side in SIDES)
    print(
      f"{name}, {allocator}, round {number + 1}: {medians[0]:.1f} ms against "
      f"{medians[1]:.1f} ms, others used {others:.2f} cores",
      file=sys.stderr,
    )
  return {"size": name, "allocator": allocator, "rounds": rounds}


def row(result: dict[str, Any]) -> list[str]:
  """Returns a result as a row of the table; see `HEADER`."""
  size = SIZES[result["size"]]
  medians = {
    side: [statistics.median(r[side]["milliseconds"]) for r in result["rounds"]]
    for side in SIDES
  }
  ours, theirs = (statistics.median(medians[side]) for side in SIDES)
  pairs = zip(medians["pytorch"], medians["undo_jax"], strict=True)
  return [
    f"{num_params(size.model) / 1e6:.2f} M",
    f"{size.batch_size} x {size.length}",
    result["allocator"],
    f"{ours:.1f}",
    f"{theirs:.1f}",
    f"{1e3 * size.tokens / ours:,.0f}",
    f"{1e3 * size.tokens / theirs:,.0f}",
    common.spread([b / a for b, a in pairs]),
    f"{max(r[side]['others'] for r in result['rounds'] for side in SIDES):.2f}",
  ]


HEADER = (
  "parameters",
  "batch",
  "allocator",
  "undo_jax, ms",
  "PyTorch, ms",
  "undo_jax, tokens/s",
  "PyTorch, tokens/s",
  "times as fast (min..max)",
  "others' cores",
)


def main(argv: list[str]) -> None:
  """Prints the table of all sizes and allocators."""
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
    for name in _SIZES.value:
      inputs = pathlib.Path(directory) / f"{name}.npz"
      write_inputs(inputs, SIZES[name])
      arguments = {"sizes": name, "inputs": inputs, "allocator": "default"}
      checks[name] = common.run_worker(
        "benchmarks.distillation_step", {**arguments, "worker": "check"}
      )
      print(f"{name}: both sides agree, {json.dumps(checks[name])}", file=sys.stderr)
      for allocator in common.available_allocators(_ALLOCATOR.value):
        results.append(compare(name, inputs, allocator))
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, [row(result) for result in results]))
  print("\n" + common.machine_text(machine))
  models = {name: dataclasses.asdict(SIZES[name]) for name in _SIZES.value}
  common.write_json(
    _OUTPUT.value,
    {"machine": machine, "sizes": models, "checks": checks, "results": results},
  )


if __name__ == "__main__":
  app.run(main)
