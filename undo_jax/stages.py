"""The plan of a run: which stages there are, what determines each, their order.

Functions of a config and of its tokenizer's file; nothing here computes. A stage's
identity is the hash of its settings and of its inputs' identities: what is finished
under an identity is never computed again, and a changed setting changes every stage
after it.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
import json
from typing import Any

from ml_collections import config_dict

from undo_jax import streams
from undo_jax.data import tokenizers

# Counted up when the meaning of a stage changes, so that old results do not pass
# for new ones.
VERSION = 1

MIXED = {"batch": ("retain", "forget")}
RETAIN = {"batch": ("retain",)}
FORGET = {"batch": ("forget",)}
PAIRED = {"forget": ("forget",), "retain": ("retain",)}
OPTIMIZER_FIELDS = (
  "learning_rate",
  "num_steps",
  "final_learning_rate",
  "warmup_steps",
  "weight_decay",
  "clip_norm",
)


@dataclasses.dataclass(frozen=True)
class Stage:
  """One unit of work with its own directory.

  `settings` is JSON and, with the inputs, all that determines the result.
  `inputs` names earlier stages by role: data, init, teacher, reference, model.
  """

  name: str
  kind: str  # "data", "train" or "attack".
  settings: dict[str, Any]
  inputs: dict[str, str] = dataclasses.field(default_factory=dict)


def plan(config: Any) -> list[Stage]:
  """Returns the stages of a config in the order they run."""
  stages = list(_plan(config))
  models = [stage.name for stage in stages if stage.kind == "train"]
  return stages + [_attack(config, model) for model in models]


def identities(stages: list[Stage]) -> dict[str, str]:
  """Returns for each stage 12 hex digits that determine its result."""
  known: dict[str, str] = {}
  for stage in stages:
    content = {
      "version": VERSION,
      "kind": stage.kind,
      "settings": stage.settings,
      "inputs": {role: known[name] for role, name in stage.inputs.items()},
    }
    text = json.dumps(content, sort_keys=True)
    known[stage.name] = hashlib.sha256(text.encode()).hexdigest()[:12]
  return known


def lineage(stages: list[Stage], name: str, *, root: str = "base") -> list[str]:
  """Returns the trained stages a model is made from, itself included, less `root`."""
  by_name = {stage.name: stage for stage in stages}
  found: list[str] = []

  def visit(name):
    if name != root and name not in found and by_name[name].kind == "train":
      found.append(name)
      for parent in by_name[name].inputs.values():
        visit(parent)

  visit(name)
  return found


def undo_name(alpha: float) -> str:
  """Returns the name of UNDO's model at a noise strength."""
  return f"undo_alpha_{alpha:g}"


def _plan(config) -> Iterator[Stage]:
  yield Stage(
    "data",
    "data",
    {
      "setting": config.setting,
      "data": _data(config),
      "seeds": _seeds(config, "data", "eval"),
    },
  )
  base = _train(config, config.pretrain, MIXED, "cross_entropy", ("init", "data"))
  yield Stage("base", "train", base, {"data": "data"})
  filtered = _train(config, config.pretrain, RETAIN, "cross_entropy", ("init", "data"))
  yield Stage("data_filtering", "train", filtered, {"data": "data"})
  for method in config.unlearn.methods:
    settings = _train(config, config.unlearn[method], PAIRED, method, ("data", "noise"))
    inputs = {"data": "data", "init": "base"}
    if method == "rmu":
      inputs["reference"] = "base"
    yield Stage(method, "train", settings, inputs)

  distill = _train(
    config, config.distill, MIXED, "forward_kl", ("distill_data", "noise")
  )
  distill["stop"] = _plain(config.distill.stop)
  teacher = config.undo.teacher
  if config.undo.oracle_matching:
    inputs = {"data": "data", "init": "base", "teacher": "data_filtering"}
    names = ("distill_data", "noise")
    oracle = _train(config, config.oracle, MIXED, "forward_kl", names)
    yield Stage("oracle_matching", "train", oracle, inputs)
  if config.undo.unlearn_and_distill:
    inputs = {"data": "data", "teacher": teacher}
    yield Stage("unlearn_and_distill", "train", distill, inputs)
  for alpha in config.undo.alphas:
    settings = {**distill, "noise": {"alpha": alpha, "beta": config.undo.beta}}
    inputs = {"data": "data", "init": teacher, "teacher": teacher}
    yield Stage(undo_name(alpha), "train", settings, inputs)


def _data(config) -> dict[str, Any]:
  """Returns the data's settings, with what its tokenizer's file holds, if it has one.

  A path does not determine a tokenizer: the file may be replaced by another.
  """
  settings = _plain(config.data, leave_out=("forget_weight",))
  content = tokenizers.content(config.data.tokenizer)
  return settings if content is None else settings | {"tokenizer_content": content}


def _train(config, training, parts, objective, names) -> dict[str, Any]:
  return {
    "setting": config.setting,
    "model": _plain(config.model),
    "objective": objective,
    "options": _plain(training.get("options", {})),
    "optimizer": {name: training[name] for name in OPTIMIZER_FIELDS},
    "parts": _plain(parts),
    "forget_weight": config.data.forget_weight,
    "batch_size": training.batch_size,
    "num_microbatches": training.num_microbatches,
    "noise": None,
    "stop": None,
    "seeds": _seeds(config, *names),
    "length": config.data.sequence_length,
  }


def _attack(config, model: str) -> Stage:
  settings = {
    "setting": config.setting,
    "model": _plain(config.model),
    "attack": _plain(config.attack),
    "parts": _plain(FORGET),
    "seeds": _seeds(config, "attack"),
    "length": config.data.sequence_length,
  }
  return Stage(f"attack_{model}", "attack", settings, {"data": "data", "model": model})


def _seeds(config, *names: str) -> dict[str, int]:
  return {name: streams.root(config.seed, config.streams, name) for name in names}


def _plain(value: Any, *, leave_out: tuple[str, ...] = ()) -> Any:
  """Returns a config's part as JSON would give it back (tuples as lists)."""
  if isinstance(value, config_dict.ConfigDict | Mapping):
    return {k: _plain(v) for k, v in value.items() if k not in leave_out}
  if isinstance(value, tuple | list):
    return [_plain(item) for item in value]
  return value
