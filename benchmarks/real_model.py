"""Tokens a second on a real model, undo_jax against transformers in PyTorch.

COMMAND, an hour or more on 2 CPU cores; the checkpoint comes from
`undo-jax import_gguf` (docs/your_own_model.md) or is any other Hugging
Face directory:

  python -m benchmarks.real_model --checkpoint=DIRECTORY --rounds=3

Five kinds of work, in float32 on both sides or, with --dtype=bfloat16, in bfloat16 with
float32 weights (in PyTorch by autocast; what is not trained is bfloat16 there), of the
same weights and random tokens:

  unlearn   4 updates of GradDiff, each of 4 forget and 4 retain rows of 128 tokens.
  distill   4 updates: the teacher's forward pass, forward KL over the vocabulary, the
            student's forward and backward pass, 4 rows of 128. The teacher is the
            checkpoint, the student the checkpoint times 0.9.
  attack    4 updates of relearning, 4 forget rows of 128 each, and a score of 1 + 1
            held-out rows, as the attack runs them, for one learning rate. The tokens of
            the updates are counted.
  evaluate  cross-entropy of 4 + 4 held-out rows of 128, forward alone.
  generate  32 tokens appended greedily to 4 prompts of 32, with a cache. The new
            tokens are counted.

Every update clips the gradient to norm 1 and is AdamW's. undo_jax runs the programs of
its own stages, the four updates as one program (`updates_at_once`). PyTorch runs
transformers' model eagerly, or what computes the loss by torch.compile; there
generation has a static cache, whose steps are compiled.

Each side runs in fresh processes, the sides by turns. The first two calls of a process,
which compile, are timed apart. Their answers are compared with a reference, PyTorch's
eager model in float32 after the same calls: losses and scores with its own, generated
tokens by how much less likely it finds them than its likeliest one, in nats, the mean.
In float32 all sides must be within 1e-3 of it; in bfloat16, whose rounding AdamW
magnifies from update to update, ours may be at most twice as far from it as PyTorch's.
Later calls run the same programs. Needs the extra `bench`, and a C++ compiler.
"""

from collections.abc import Callable
import dataclasses
import functools
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import common, pytorch
from undo_jax.utils import tables

SIDES = ("undo_jax", "eager", "compiled")
PACKAGES = "jax jaxlib flax optax torch transformers numpy".split()
MODULE = "benchmarks.real_model"
ROWS, LENGTH = 4, 128  # Of each kind of data.
UPDATES = 4  # Of training in a call.
PROMPT, NEW = 32, 32  # Tokens of a row.
LEARNING_RATE, WEIGHT_DECAY = 1e-5, 0.1
STUDENT = 0.9  # The student's weights over the teacher's.
# Tokens that a call is counted for.
TOKENS = {
  "unlearn": UPDATES * 2 * ROWS * LENGTH,
  "distill": UPDATES * ROWS * LENGTH,
  "attack": UPDATES * ROWS * LENGTH,
  "evaluate": 2 * ROWS * LENGTH,
  "generate": ROWS * NEW,
}
KINDS = tuple(TOKENS)
DTYPES = ("float32", "bfloat16")
TOLERANCE = 1e-3  # Of answers in float32; relative where they exceed 1.
FACTOR = 2.0  # Of ours over PyTorch's in bfloat16.
WARM_UP = 2  # Calls of a process that compile.

Call = Callable[[], Any]  # Does the work once, to its end; returns its answer.

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Hugging Face directory.")
_KINDS = flags.DEFINE_list("kinds", list(KINDS), "Some of: " + ", ".join(KINDS))
_SIDES = flags.DEFINE_list("sides", list(SIDES), "Some of: " + ", ".join(SIDES))
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each side.", lower_bound=1)
_CALLS = flags.DEFINE_integer("calls", 3, "Timed calls of a process.", lower_bound=1)
_UNROLL = flags.DEFINE_integer(
  "scan_unroll",
  0,
  "undo_jax: model.scan_unroll; 0: all layers, as configs/smollm2.py:tiny has it.",
  lower_bound=0,
)
_DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "What all sides multiply in.")
_PATIENCE = flags.DEFINE_float(
  "patience",
  0.0,
  "Seconds that each process may wait for an idle machine and be run again where "
  "others disturbed it.",
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "Where to write results as JSON, kind by kind."
)
_WORKER = flags.DEFINE_enum("worker", None, SIDES, "Internal: be one side's process.")
_REPORT = flags.DEFINE_string("report", None, "Internal: where a worker answers.")


def _only(name: str, allowed: tuple[str, ...]) -> None:
  flags.register_validator(
    name,
    lambda chosen: bool(chosen) and set(chosen) <= set(allowed),
    message=f"expected some of {', '.join(allowed)}",
  )


_only("kinds", KINDS)
_only("sides", SIDES)


class Inputs:
  """The random tokens of all kinds of work, which both sides read."""

  def __init__(self, vocab_size: int):
    def draw(seed, *shape):
      return common.draw_tokens(vocab_size, shape, seed)

    row = LENGTH + 1
    self.forget, self.retain = draw(0, ROWS, row), draw(1, ROWS, row)
    self.relearned = draw(2, UPDATES, ROWS, row)
    # [retain and forget, rows, L + 1].
    self.scored, self.held_out = draw(3, 2, 1, row), draw(4, 2, ROWS, row)
    self.prompts = draw(5, ROWS, PROMPT)


# MARK: undo_jax


class JaxSide:
  """The programs that the library's own stages run; a method for each kind."""

  def __init__(self, directory: pathlib.Path):
    from undo_jax.checkpoints import sources
    from undo_jax.distributed import sharding
    from undo_jax.utils import files

    self._source = sources.open_source(files.path(str(directory)))
    model = self._source.model
    self._model = dataclasses.replace(
      model, dtype=_DTYPE.value, scan_unroll=_UNROLL.value or model.num_layers
    )
    self._mesh = sharding.make_mesh()
    self._inputs = Inputs(self._model.vocab_size)

  def unlearn(self) -> Call:
    """Return updates of GradDiff, which answer their losses."""
    batch = {
      name: common.batch_of(getattr(self._inputs, name))
      for name in ("forget", "retain")
    }
    options = (("retain_weight", 1.0),)
    return self._training("grad_diff", options, self._load(), {}, batch)

  def distill(self) -> Call:
    """Return updates of distillation, which answer their losses."""
    import jax

    from undo_jax.running import programs

    params = self._load()
    frozen = {"teacher": programs.freeze(self._model, self._mesh)(params)}
    student = jax.tree.map(lambda x: STUDENT * x, params)
    batch = common.batch_of(self._inputs.forget)
    return self._training("forward_kl", (), student, frozen, batch)

  def attack(self) -> Call:
    """Return updates of relearning with their scores, which are the answer."""
    import jax

    from undo_jax.distributed import sharding
    from undo_jax.running import programs

    attack = programs.attack(
      self._model, self._mesh, "language", (), 2 * ROWS, _optimizer(), 1
    )
    key, rates = jax.random.key(0), jax.numpy.full(1, LEARNING_RATE)
    state = attack.create(self._load(), rates, key)
    batch = common.batch_of(self._inputs.relearned[None])
    batches = sharding.put_batch(batch, self._mesh, leading=2)
    problems = self._problems(self._inputs.scored)

    def call():
      nonlocal state
      state, scores = attack.program(state, (), problems, batches, key, 0)
      jax.block_until_ready(state)
      return [float(scores[name][0, 0]) for name in ("retain", "forget")]

    return call

  def evaluate(self) -> Call:
    """Return the scores of held-out rows, which are the answer."""
    from undo_jax.running import programs

    evaluate = programs.evaluate(self._model, self._mesh, "language", (), 2 * ROWS)
    params, problems = self._load(), self._problems(self._inputs.held_out)

    def call():
      scores = evaluate(params, problems)
      return [float(scores[name]) for name in ("retain", "forget")]

    return call

  def generate(self) -> Call:
    """Return greedy generation, which answers the tokens [B, T]."""
    import numpy as np

    from undo_jax.models.decoder import Decoder
    from undo_jax.models.generation import make_generate

    params = self._load()
    generate = make_generate(Decoder(self._model), num_tokens=NEW)
    return lambda: np.asarray(generate(params, self._inputs.prompts).tokens_BxT)

  def _load(self):
    from undo_jax.checkpoints import sources
    from undo_jax.running import programs

    return sources.load(self._source, programs.abstract_params(self._model, self._mesh))

  def _training(self, objective, options, params, frozen, batch) -> Call:
    import jax
    import numpy as np

    from undo_jax.distributed import sharding
    from undo_jax.running import programs

    training = programs.training(
      self._model, self._mesh, objective, options, _optimizer(), 1
    )
    state, key = training.create(params), jax.random.key(0)
    batches = jax.tree.map(lambda x: np.stack([x] * UPDATES), batch)
    batches = sharding.put_batch(batches, self._mesh, leading=1)

    def call():
      nonlocal state
      state, metrics = training.steps(state, frozen, batches, key, UPDATES)
      jax.block_until_ready(state)
      return np.asarray(metrics["loss"])

    return call

  def _problems(self, groups):
    import numpy as np

    from undo_jax.distributed import sharding

    problems = common.batch_of(np.concatenate(groups))
    problems["group"] = np.repeat(np.arange(len(groups)), len(groups[0]))
    return sharding.put_whole(problems, sharding.replicated(self._mesh))


def _optimizer():
  from undo_jax.training.optimizers import OptimizerConfig

  return OptimizerConfig(
    learning_rate=LEARNING_RATE, num_steps=1_000_000, weight_decay=WEIGHT_DECAY
  )


# MARK: PyTorch


class TorchSide:
  """The same work as a PyTorch user writes it; a method for each kind."""

  def __init__(self, directory: pathlib.Path, is_compiled: bool, dtype: str):
    import torch

    self._directory = directory
    self._is_compiled = is_compiled
    self._dtype = getattr(torch, dtype)
    self._model = pytorch.load(directory)
    self._inputs = Inputs(self._model.config.vocab_size)
    self._optimizer = torch.optim.AdamW(
      self._model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )

  def unlearn(self) -> Call:
    """Return updates of GradDiff, which answer their losses."""
    loss = self._compile(functools.partial(pytorch.cross_entropy, self._model))
    forget, retain = _tensor(self._inputs.forget), _tensor(self._inputs.retain)
    return self._updates(lambda: loss(retain) - loss(forget))

  def distill(self) -> Call:
    """Return updates of distillation, which answer their losses."""
    import torch

    teacher = pytorch.load(self._directory).to(self._dtype).eval()
    with torch.no_grad():
      for parameter in self._model.parameters():
        parameter.mul_(STUDENT)

    def divergence(tokens):
      with torch.no_grad():
        target = pytorch.logits(teacher, tokens)
      return pytorch.forward_kl(pytorch.logits(self._model, tokens), target)

    loss, tokens = self._compile(divergence), _tensor(self._inputs.forget[:, :-1])
    return self._updates(lambda: loss(tokens))

  def attack(self) -> Call:
    """Return updates of relearning with their scores, which are the answer."""
    loss = self._compile(functools.partial(pytorch.cross_entropy, self._model))
    batches, score = _tensor(self._inputs.relearned), self._scores(self._inputs.scored)

    def call():
      for rows in batches:
        self._update(loss(rows))
      return score()

    return call

  def evaluate(self) -> Call:
    """Return the scores of held-out rows, which are the answer."""
    self._model.to(self._dtype).eval()
    return self._scores(self._inputs.held_out)

  def generate(self) -> Call:
    """Return greedy generation, which answers the tokens [B, T]."""
    import torch

    self._model.to(self._dtype).eval()
    self._model.generation_config.eos_token_id = None  # Rows of full length.
    prompts = _tensor(self._inputs.prompts)
    valid, how = torch.ones_like(prompts), _static() if self._is_compiled else {}
    return lambda: pytorch.generate(self._model, prompts, valid, NEW, **how)

  def shortfall(self, new_tokens: list[list[int]]) -> float:
    """Return by how many nats tokens [B, T] fall short of the likeliest, the mean."""
    import numpy as np
    import torch

    new = _tensor(np.asarray(new_tokens))
    rows = torch.cat([_tensor(self._inputs.prompts), new], dim=1)
    with torch.no_grad():
      logits = pytorch.logits(self._model, rows[:, :-1])[:, PROMPT - 1 :]
    chosen = logits.gather(-1, new[..., None])[..., 0]
    return float((logits.amax(-1) - chosen).mean())

  def _updates(self, loss: Call) -> Call:
    return lambda: [self._update(loss()) for _ in range(UPDATES)]

  def _update(self, loss):
    return pytorch.update(loss, self._model, self._optimizer)[0]

  def _compile(self, function):
    import torch

    if self._is_compiled:
      function = torch.compile(function, dynamic=False)

    def forward(*inputs):
      is_low = self._dtype != torch.float32
      with torch.autocast("cpu", self._dtype, enabled=is_low):
        return function(*inputs)

    return forward

  def _scores(self, groups):
    """Return what computes the mean cross-entropy of each group of rows."""
    import numpy as np
    import torch

    loss = functools.partial(pytorch.cross_entropy, self._model, reduction="none")
    loss, rows = self._compile(loss), _tensor(np.concatenate(groups))

    def scores():
      with torch.no_grad():
        return loss(rows).view(len(groups), -1).mean(1).tolist()

    return scores


def _tensor(tokens):
  import torch

  return torch.from_numpy(tokens).long()


def _static():
  """Return the arguments by which transformers compiles the steps of `generate`."""
  import transformers

  config: Any = transformers.CompileConfig(mode="default")
  config._compile_all_devices = True  # Without it, on accelerators alone.
  return {"cache_implementation": "static", "compile_config": config}


# MARK: workers


def work(side: str, kind: str, directory: pathlib.Path) -> dict[str, Any]:
  """Is the process of one side, doing one kind of work."""
  if side == "undo_jax":
    from undo_jax.utils import allocator

    common.as_launched()
    call = getattr(JaxSide(directory), kind)()
    allocator.return_freed_memory()  # As stages do before they train.
    return measure(call)
  with tempfile.TemporaryDirectory() as cache:  # Each process compiles for itself.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    torch_side = TorchSide(directory, side == "compiled", str(_DTYPE.value))
    return measure(getattr(torch_side, kind)())


def measure(call: Call) -> dict[str, Any]:
  """Return the seconds of every call, what compiling took, and all answers."""
  first, answers = timed(call, WARM_UP)
  with common.Stopwatch() as watch:
    seconds, more = timed(call, int(_CALLS.value or 0))
  return {
    "seconds": seconds,
    "compiling": max(0.0, sum(first) - WARM_UP * statistics.median(seconds)),
    "answers": answers + more,
    "others": watch.others,
  }


def timed(call: Call, num_calls: int) -> tuple[list[float], list[Any]]:
  """Return the seconds and the answer of every call."""
  import numpy as np

  seconds, answers = [], []
  for _ in range(num_calls):
    start = time.perf_counter()
    answer = call()
    seconds.append(time.perf_counter() - start)
    answers.append(np.asarray(answer).tolist())
  return seconds, answers


# MARK: the reference


class Reference:
  """PyTorch's eager model in float32, by whose answers the sides are judged."""

  def __init__(self, directory: pathlib.Path, kind: str):
    self._kind = kind
    self._side = TorchSide(directory, is_compiled=False, dtype="float32")
    if kind != "generate":
      self._answers = timed(getattr(self._side, kind)(), WARM_UP)[1]

  def distance(self, answers: list[Any]) -> float:
    """Return how far a side's first answers are from the reference's.

    Losses and scores: the largest difference, relative where they exceed 1. Tokens
    [B, T] of each call: the mean nats by which they fall short of the likeliest.
    """
    import numpy as np

    first = answers[:WARM_UP]
    if self._kind == "generate":
      return float(np.mean([self._side.shortfall(tokens) for tokens in first]))
    ours, reference = np.asarray(first), np.asarray(self._answers)
    scale = np.maximum(1.0, np.abs(reference))
    return float(np.max(np.abs(ours - reference) / scale))


# MARK: the comparison


def compare(kind: str, directory: pathlib.Path) -> list[dict[str, Any]]:
  """Run all rounds of a kind; return for each the answer of every side."""
  arguments = {
    "checkpoint": directory.resolve(),
    "kinds": kind,
    "calls": _CALLS.value,
    "scan_unroll": _UNROLL.value,
    "dtype": _DTYPE.value,
  }
  rounds = []
  for number in range(_ROUNDS.value or 0):
    answers = {
      side: common.run_undisturbed(
        MODULE, {**arguments, "worker": side}, patience=_PATIENCE.value or 0.0
      )
      for side in _SIDES.value or ()
    }
    rounds.append(answers)
    print(f"{kind}, round {number + 1}: {summary(kind, answers)}", file=sys.stderr)
  reference = Reference(directory, kind)
  for answers in rounds:
    for answer in answers.values():
      answer["distance"] = reference.distance(answer["answers"])
  return rounds


def summary(kind: str, answers: dict[str, dict[str, Any]]) -> str:
  """Return a round in one line."""
  speeds = ", ".join(f"{side} {speed(kind, x):,.1f}" for side, x in answers.items())
  others = max(answer["others"] for answer in answers.values())
  return f"{speeds} tokens/s; others used {others:.2f} cores"


def wrong(kind: str, rounds: list[dict[str, Any]]) -> list[str]:
  """Return a line for each side that did other work than the rest; see FACTOR."""
  distances = {side: farthest(rounds, side) for side in rounds[0]}
  most = TOLERANCE
  if _DTYPE.value != "float32":
    ours = {name: distances.pop(name) for name in ("undo_jax",) if name in distances}
    if not distances:
      return []  # There is nothing to compare with.
    most, distances = FACTOR * max(distances.values()), ours
  return [
    f"{kind}: the answers of {side} are {distance:.2g} from the reference, not at most "
    f"{most:.2g}"
    for side, distance in distances.items()
    if not distance <= most  # NaN is not either.
  ]


def farthest(rounds: list[dict[str, Any]], side: str) -> float:
  """Return the largest distance of a side's answers over all rounds."""
  return max(answers[side]["distance"] for answers in rounds)


def speed(kind: str, answer: dict[str, Any]) -> float:
  """Return the tokens a second of a process, by its median call."""
  return TOKENS[kind] / statistics.median(answer["seconds"])


HEADER = (
  "kind",
  "side",
  "tokens/s",
  "undo_jax over the faster other (min..max)",
  "compiling, s",
  "from the reference",
  "others' cores",
)


def rows_of(kind: str, rounds: list[dict[str, Any]]) -> list[list[str]]:
  """Return the rows of the table, a side each; see HEADER."""
  return [
    [
      kind,
      side,
      f"{statistics.median(speed(kind, answers[side]) for answers in rounds):,.1f}",
      ratios(kind, rounds) if side == "undo_jax" else "",
      f"{statistics.median(answers[side]['compiling'] for answers in rounds):.1f}",
      f"{farthest(rounds, side):.1e}",
      f"{max(answers[side]['others'] for answers in rounds):.2f}",
    ]
    for side in rounds[0]
  ]


def ratios(kind: str, rounds: list[dict[str, Any]]) -> str:
  """Return our speed over that of the round's faster other side, with its spread."""
  values = []
  for answers in rounds:
    speeds = {side: speed(kind, answer) for side, answer in answers.items()}
    ours = speeds.pop("undo_jax")
    if speeds:
      values.append(ours / max(speeds.values()))
  return common.spread(values) if values else ""


def main(argv: list[str]) -> None:
  """Print the table of all kinds and sides."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  directory = common.checkpoint_directory(_CHECKPOINT.value)
  common.require("torch", "transformers", "psutil")
  common.use_cpu()
  kinds = list(_KINDS.value or ())
  if _WORKER.value:
    answer = work(_WORKER.value, kinds[0], directory)
    common.report(str(_REPORT.value), answer)
    return
  results, machine = {}, common.describe(PACKAGES)
  for kind in kinds:
    results[kind] = compare(kind, directory)
    common.write_json(
      _OUTPUT.value, {"machine": machine, "dtype": _DTYPE.value, "results": results}
    )
  rows = [row for kind, rounds in results.items() for row in rows_of(kind, rounds)]
  print(tables.markdown(HEADER, rows))
  print(f"\nIn {_DTYPE.value}. {common.machine_text(machine)}")
  errors = [line for kind, rounds in results.items() for line in wrong(kind, rounds)]
  if errors:
    sys.exit("error: " + "\nerror: ".join(errors))


if __name__ == "__main__":
  app.run(main)
