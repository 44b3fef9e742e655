"""A suite of attacks on several models, against its parts; and those without training.

COMMAND, minutes on 2 CPU cores:

  python -m benchmarks.attack_suite --models=3

At the sizes of the tiny arithmetic config's attack. Two comparisons, in one process:

  suite        all attacks on all models, each program compiled once, against the sum
               of its parts: each attack on each model, its programs compiled anew as a
               process of its own would. Told with it is how often each was compiled.
  no training  pruning, quantization, weight noise, the way to the base and direction
               ablation, at the strengths of the config, on one model together, against
               one relearning run of all its learning rates; both with compilation and
               without.
"""

from collections.abc import Callable, Mapping
import json
import sys
from typing import Any

from absl import app, flags

from benchmarks import common
from benchmarks.attack_setting import (
  EVALUATE_EVERY,
  EVALUATION_ROWS,
  PACKAGES,
  RATES,
  Setting,
)
from undo_jax import config as builders
from undo_jax.models.config import num_params
from undo_jax.utils import tables

# Those that train, as (optimizer, adversary, options).
RELEARNING = {
  "relearn": ("adamw", "finetuning", {}),
  "muon": ("muon", "finetuning", {}),
  "lora": (
    "adamw",
    "lora",
    {"rank": 8, "alpha": 16.0, "targets": list(builders.ALL_KERNELS)},
  ),
  "soft_prompt": ("adamw", "soft_prompt", {"tokens": 20}),
}
# Those that do not; searches for a prompt are as long as one likes.
EDITS = (
  "pruning",
  "quantization",
  "weight_noise",
  "interpolation_to_base",
  "difference_rank",
  "direction_ablation",
)
HEADER = ("comparison", "first, s", "against, s", "ratio", "compiled once")
Attacks = dict[str, Callable[[Any], Any]]

_MODELS = flags.DEFINE_integer("models", 3, "Models that are attacked.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
  "steps", 120, "Updates of relearning, a multiple of 10.", lower_bound=EVALUATE_EVERY
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")


def attacks(
  setting: Setting,
  relearning: Mapping[str, Any] = RELEARNING,
  edits: Mapping[str, tuple[float, ...]] | None = None,
) -> Attacks:
  """Return the attacks by name, each `params -> scores` that waits for its end.

  Programs are those of a run; a new list of attacks shares them with an old one until
  they are forgotten.

  Args:
    setting: of all of them.
    relearning: see RELEARNING.
    edits: their strengths; None: EDITS with those of the config.
  """
  if edits is None:
    shipped = builders.shipped("arithmetic:tiny").attacks
    edits = {name: tuple(shipped[name].strengths) for name in EDITS}
  trained = {name: _relearning(setting, *how) for name, how in relearning.items()}
  return trained | {name: _edit(setting, name, edits[name]) for name in edits}


def _relearning(setting: Setting, optimizer: str, adversary: str, options: Any):
  import dataclasses

  import jax
  import numpy as np

  from undo_jax.distributed import sharding
  from undo_jax.running import programs

  rates = np.asarray(RATES, np.float32)
  settings = dataclasses.replace(setting.optimizer(1.0), name=optimizer)
  batches = sharding.put_batch(setting.batches, setting.mesh, leading=2)

  def run(params):
    attack = programs.attack(
      setting.model,
      setting.mesh,
      "arithmetic",
      setting.tasks,
      EVALUATION_ROWS,
      settings,
      len(rates),
      (adversary, json.dumps(options)),
    )
    state = attack.create(params, rates, setting.key)
    frozen = {"base": params} if attack.reads_base else ()
    given = (state, frozen, setting.problems, batches, setting.key, 0)
    return jax.device_get(attack.program(*given)[1])

  return run


def _edit(setting: Setting, name: str, strengths: tuple[float, ...]):
  import jax

  from undo_jax import attacks as adversaries
  from undo_jax.running import programs

  kind = adversaries.EDITS.get(name)
  one = jax.tree.map(lambda x: x[0, 0], setting.batches)
  rows = {part: one for part in kind.reads}
  shipped = builders.shipped("arithmetic:tiny").attacks[name].options
  options = json.dumps(shipped.to_dict())

  def run(params):
    scores = []
    for strength in strengths:
      which, tree = (name, options, strength), params
      if kind.beside is None:
        base = setting.params if kind.reads_base else None
        edit = programs.edit(setting.model, setting.mesh, *which)
        tree = edit(params, base, setting.key)
      else:
        find = programs.find_beside(setting.model, setting.mesh, *which)
        tree = {"base": params, **find(params, rows, setting.key)}
      score = programs.evaluate(
        setting.model,
        setting.mesh,
        "arithmetic",
        setting.tasks,
        EVALUATION_ROWS,
        which if kind.beside else None,
      )
      scores.append(score(tree, setting.problems))
    return jax.device_get(scores)

  return run


def forget_programs() -> None:
  """Forget all that is compiled: what follows compiles as a new process does."""
  import jax

  from undo_jax.running import programs

  for fn in (programs.attack, programs.edit, programs.find_beside, programs.evaluate):
    fn.cache_clear()
  jax.clear_caches()


class Compilations:
  """Counts the programs that XLA compiles."""

  def __init__(self):
    import jax

    self.count = 0
    jax.monitoring.register_event_duration_secs_listener(self._heard)

  def _heard(self, name: str, seconds: float, **details: object) -> None:
    del seconds, details
    self.count += name.endswith("backend_compile_duration")


def models(setting: Setting, count: int) -> list[Any]:
  """Return so many models of random weights."""
  import jax

  from undo_jax.running import programs

  draw = programs.initialize(setting.model, setting.mesh)
  return [jax.block_until_ready(draw(jax.random.key(n))) for n in range(count)]


def compare_suite(
  setting: Setting, attacked: list[Any], how: Attacks
) -> dict[str, Any]:
  """Return the seconds of the suite and of its parts, and what was compiled."""
  compilations = Compilations()
  parts: dict[str, list[float]] = {name: [] for name in how}
  alone: dict[str, int] = {}
  measured: dict[str, list[Any]] = {name: [] for name in how}
  for name, run in how.items():
    for params in attacked:
      forget_programs()
      before = compilations.count
      with common.Stopwatch() as watch:
        measured[name].append(run(params))
      parts[name].append(watch.seconds)
      alone[name] = compilations.count - before
  forget_programs()
  before, again = compilations.count, {name: 0 for name in how}
  with common.Stopwatch() as suite:
    for name, run in how.items():
      for number, params in enumerate(attacked):
        others = compilations.count
        _check_equal(run(params), measured[name][number], name)
        again[name] += (compilations.count - others) if number else 0
  return {
    "suite": suite.seconds,
    "parts": parts,
    "compiled_by_suite": compilations.count - before,
    "compiled_by_a_part": alone,
    "compiled_again": again,  # By the suite, for the second model and later ones.
  }


def compare_training_free(
  setting: Setting, params: Any, how: Attacks, trained: str = "relearn"
) -> dict[str, Any]:
  """Return the seconds of all attacks without training and of one with, twice each."""
  free = {name: run for name, run in how.items() if name not in RELEARNING}
  kinds: dict[str, Attacks] = {"free": free, "relearning": {trained: how[trained]}}
  seconds: dict[str, list[float]] = {name: [] for name in kinds}
  for name, own in kinds.items():
    forget_programs()
    for _ in range(2):
      with common.Stopwatch() as watch:
        for run in own.values():
          run(params)
      seconds[name].append(watch.seconds)
  return seconds


def _check_equal(one: Any, other: Any, name: str) -> None:
  """Check that the suite's scores are those of the part: it is the same work."""
  import jax
  import numpy as np

  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5, err_msg=name), one, other
  )


def rows(suite: Mapping[str, Any], free: Mapping[str, Any]) -> list[list[str]]:
  """Return the rows of the table; see HEADER."""
  total = sum(sum(own) for own in suite["parts"].values())
  again = sum(suite["compiled_again"].values())
  made = [
    ("suite, its parts", suite["suite"], total, "yes" if not again else str(again))
  ]
  for number, name in enumerate(("with compilation", "without")):
    pair = (free["free"][number], free["relearning"][number])
    made.append((f"no training, relearning: {name}", *pair, ""))
  return [
    [name, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}", note] for name, a, b, note in made
  ]


def main(argv: list[str]) -> None:
  """Print the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  common.as_launched()
  setting = Setting(_STEPS.value)
  attacked, how = models(setting, _MODELS.value), attacks(setting)
  suite = compare_suite(setting, attacked, how)
  free = compare_training_free(setting, attacked[-1], how)
  for name, own in suite["parts"].items():
    print(f"{name}: {', '.join(f'{s:.1f} s' for s in own)}", file=sys.stderr)
  print(tables.markdown(HEADER, rows(suite, free)))
  print(
    f"\n- {num_params(setting.model) / 1e6:.2f} M parameters, {_MODELS.value} models, "
    f"{len(how)} attacks, {_STEPS.value} updates, {len(RATES)} learning rates"
  )
  machine = common.describe(PACKAGES)
  print(common.machine_text(machine))
  results = {"machine": machine, "suite": suite, "training_free": free}
  common.write_json(_OUTPUT.value, results)


if __name__ == "__main__":
  app.run(main)
