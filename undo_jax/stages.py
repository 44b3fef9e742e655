"""The plan of a run: which stages there are, what determines each, their order.

Functions of a config and of its tokenizer's file; nothing here computes. A stage's
identity is the hash of its settings and of its inputs' identities: what is finished
under an identity is never computed again, and a changed setting changes every stage
after it.
"""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import hashlib
import itertools
import json
from typing import Any

from ml_collections import config_dict

from undo_jax import objectives
from undo_jax import tasks as settings_lib
from undo_jax.data import labels, tokenizers
from undo_jax.utils import streams
from undo_jax.utils.types import ConfigError

# Counted up when the meaning of a stage changes, so that old results do not pass
# for new ones.
VERSION = 2

# The mixtures of config.mixtures, by the parts of a batch they fill.
PRETRAIN = {"batch": "pretrain"}
FILTERED = {"batch": "data_filtering"}
PAIRED = {"forget": "unlearn_forget", "retain": "unlearn_retain"}
DISTILL = {"batch": "distill"}
ATTACK = {"batch": "attack"}
MIXTURES = ("pretrain", "data_filtering", *PAIRED.values(), "distill", "attack")
# What config.routing.methods may name; see routed_plan.
ROUTED = (
  "routed",
  "routed_control",
  "sgtm",
  "routed_distillation",
  "sgtm_distillation",
)
DISTILLATION = "_distillation"  # Ends the names of those that start from the base.
WHOLE = "_whole"  # After a model's name: before its reserved units are ablated.
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
  `inputs` names earlier stages by role: data, init, model, and those of frozen
  models: teacher, base, reference.
  """

  name: str
  kind: str  # "data", "given", "train", "ablate" or "attack".
  settings: dict[str, Any]
  inputs: dict[str, str] = dataclasses.field(default_factory=dict)


def plan(config: Any) -> list[Stage]:
  """Returns the stages of a config in the order they run."""
  stages = [*_plan(config), *routed_plan(config)]
  return stages + [attack(config, model) for model in models(stages)]


def models(stages: Iterable[Stage]) -> list[str]:
  """Returns the models that a plan makes: trained or ablated, but not to be ablated."""
  made = [stage for stage in stages if stage.kind in ("train", "ablate")]
  whole = {stage.inputs["model"] for stage in made if stage.kind == "ablate"}
  return [stage.name for stage in made if stage.name not in whole]


def given(config: Any, name: str, fingerprint: str) -> Stage:
  """Returns the stage that takes a model from a checkpoint and scores it.

  Args:
    config: the run's, whose `model` is the checkpoint's.
    name: of the model in this run.
    fingerprint: of the checkpoint's content; its path does not matter.
  """
  settings = {
    "setting": config.setting,
    "model": _plain(config.model),
    "fingerprint": fingerprint,
  }
  return Stage(name, "given", settings, {"data": "data"})


def replaced(stages: list[Stage], stage: Stage) -> list[Stage]:
  """Returns the plan with `stage` in the place of the one of its name."""
  return [stage if other.name == stage.name else other for other in stages]


def needed(stages: list[Stage], names: Iterable[str]) -> list[Stage]:
  """Returns the part of a plan that the named stages need, themselves included."""
  wanted = set(names)
  for stage in reversed(stages):
    if stage.name in wanted:
      wanted |= set(stage.inputs.values())
  return [stage for stage in stages if stage.name in wanted]


def named(stages: list[Stage], models: Iterable[str]) -> list[str]:
  """Returns the stages that models name: each its own, or its attack's.

  Raises:
    ConfigError: if there is none of a name.
  """
  known = [stage.name for stage in stages]
  found = []
  for model in models:
    name = f"attack_{model}" if f"attack_{model}" in known else model
    if name not in known:
      raise ConfigError(f"--models: {model!r} is none of {', '.join(known)}")
    found.append(name)
  return found


# What a single stage can be, and the name that a given checkpoint takes in it.
SINGLE = ("pretrain", "unlearn", "distill", "relearn", "evaluate")
GIVEN = "model"


def single(config: Any, kind: str, fingerprint: str | None = None) -> list[Stage]:
  """Returns the plan of one of SINGLE: all models it makes, and what they need.

  1. Without a checkpoint it is a part of `plan`, with the same identities.
  2. With one, the checkpoint stands where the plan trains the model it starts
     from: what pretraining goes on with, what is unlearned, the unlearned model
     that teaches and is noised, what is attacked or scored.

  Args:
    config: the run's; with a checkpoint its `model` must be the checkpoint's.
    kind: one of SINGLE.
    fingerprint: of the checkpoint, or None.
  """
  full = plan(config)
  routing = {stage.name: stage for stage in routed_plan(config)}
  distilled = [name for name in routing if f"{DISTILLATION}_alpha_" in name]
  robust = [name for name in routing if "_undo_" in name]
  made = {
    "pretrain": ["base", "data_filtering", *routing.keys() - {*distilled, *robust}],
    "unlearn": [*config.unlearn.methods, *distilled],
    "distill": [
      *(["unlearn_and_distill"] if config.undo.unlearn_and_distill else []),
      *map(undo_name, config.undo.alphas),
    ],
    "relearn": [stage.name for stage in full if stage.kind == "attack"],
    "evaluate": models(full),
  }
  if fingerprint is None:
    made["distill"] += robust
    return needed(full, made[kind])
  data = full[0]
  if kind in ("relearn", "evaluate"):
    model = given(config, GIVEN, fingerprint)
    rest = [attack(config, GIVEN)] if kind == "relearn" else []
    return [data, model, *rest]
  if kind == "pretrain":
    model = given(config, GIVEN, fingerprint)
    trained = [
      dataclasses.replace(stage, inputs={**stage.inputs, "init": GIVEN})
      if stage.kind == "train"
      else stage
      for stage in full
      if stage.name in made[kind]
    ]
    return [data, model, *trained]
  name = "base" if kind == "unlearn" else config.undo.teacher
  return needed(replaced(full, given(config, name, fingerprint)), made[kind])


def attack(config: Any, model: str) -> Stage:
  """Returns the stage that relearns the forget data from a model."""
  switched = ("warmup_steps", "lora", "perturb", "trainable")
  adversary = _plain(config.attack, leave_out=switched)
  # Off, they determine nothing and have no place here.
  if config.attack.warmup_steps:
    adversary["warmup_steps"] = config.attack.warmup_steps
  if config.attack.lora.rank:
    adversary["lora"] = _plain(config.attack.lora)
  if config.attack.perturb.alpha:
    adversary["perturb"] = _plain(config.attack.perturb)
  if config.attack.trainable:
    adversary["trainable"] = _plain(config.attack.trainable)
  settings = {
    "setting": config.setting,
    "model": _plain(config.model),
    "attack": adversary,
    "parts": _parts(config, ATTACK),
    "seeds": _seeds(config, "attack"),
    "length": length(config, ATTACK),
  }
  return Stage(f"attack_{model}", "attack", settings, {"data": "data", "model": model})


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
  """Returns the stages that made a model, its own included, less `root`."""
  by_name = {stage.name: stage for stage in stages}
  found: list[str] = []

  def visit(name):
    kind = by_name[name].kind
    if name != root and name not in found and kind in ("train", "ablate"):
      found.append(name)
      for parent in by_name[name].inputs.values():
        visit(parent)

  visit(name)
  return found


def changed(training: Any, changes: Any) -> Any:
  """Returns a copy of a training's config with those changes that are not None."""
  copy = training.copy_and_resolve_references()
  copy.update({name: value for name, value in changes.items() if value is not None})
  return copy


def undo_name(alpha: float) -> str:
  """Returns the name of UNDO's model at a noise strength."""
  return f"undo_alpha_{alpha:g}"


def routed_name(name: str, alpha: float) -> str:
  """Returns the name of a routed distillation, or of UNDO on a routed model."""
  if name.endswith(DISTILLATION):
    return f"{name}_alpha_{alpha:g}"
  return f"{name}_{undo_name(alpha)}"


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
  filtering = changed(config.pretrain, config.data_filtering)
  for name, training, parts in (
    ("base", config.pretrain, PRETRAIN),
    ("data_filtering", filtering, FILTERED),
  ):
    settings = _train(config, training, parts, "cross_entropy", ("init", "data"))
    yield Stage(name, "train", settings, {"data": "data"})
  for method in config.unlearn.methods:
    training = config.unlearn[method]
    objective = training.get("objective", method)
    settings = _train(config, training, PAIRED, objective, ("data", "noise"))
    inputs = {"data": "data", "init": "base", **_before(settings)}
    yield Stage(method, "train", settings, inputs)

  names = ("distill_data", "noise")
  distill = _train(config, config.distill, DISTILL, "forward_kl", names)
  distill["stop"] = _stop(config.distill.stop)
  teacher = config.undo.teacher
  if config.undo.oracle_matching:
    inputs = {"data": "data", "init": "base", "teacher": "data_filtering"}
    oracle = _train(config, config.oracle, DISTILL, "forward_kl", names)
    yield Stage("oracle_matching", "train", oracle, inputs)
  if config.undo.unlearn_and_distill:
    inputs = {"data": "data", "teacher": teacher, **_before(distill)}
    training = changed(config.distill, config.unlearn_and_distill)
    training.trainable = ()  # A random student learns everything.
    settings = _train(config, training, DISTILL, "forward_kl", names)
    settings["stop"] = distill["stop"]
    yield Stage("unlearn_and_distill", "train", settings, inputs)
  for alpha in config.undo.alphas:
    settings = {**distill, "noise": {"alpha": alpha, "beta": config.undo.beta}}
    inputs = {"data": "data", "init": teacher, "teacher": teacher, **_before(distill)}
    yield Stage(undo_name(alpha), "train", settings, inputs)


def routed_plan(config: Any) -> Iterator[Stage]:
  """Yields the models whose forgetting is prepared by routing.

  1. data_filtering_labelled, where labels are partial: pretraining without the rows
     labelled forget.
  2. routed, routed_control (its forget rows train everything) and sgtm: pretraining
     of a model with reserved units (NAME_whole), which are then ablated (NAME).
  3. UNDO on those of routing.teachers: noised, and distilled from themselves.
  4. routed_distillation and sgtm_distillation: the base is noised and distilled from
     itself, forget rows routed to the reserved units, which are then ablated.
  """
  if config.routing.methods:
    yield from _routed_pretraining(config)
    yield from _routed_distillation(config)


def _routed_pretraining(config) -> Iterator[Stage]:
  routing, names = config.routing, ("init", "data")
  told = {"labels": {"share": routing.labelled, "forget": _forget(config)}}
  if routing.labelled < 1:
    filtering = changed(config.pretrain, config.data_filtering)
    settings = _train(config, filtering, PRETRAIN, "cross_entropy", names)
    settings |= told | {"parts": {"batch": _without_labelled(config)}}
    yield Stage("data_filtering_labelled", "train", settings, {"data": "data"})
  training = changed(config.pretrain, routing.pretrain)
  weights = {"routed": routing.old_target, "routed_control": 1.0}
  for name in routing.methods:
    if name in weights:
      settings = _train(
        config, training, PRETRAIN, "routed", names, options=_coherence(config)
      )
      settings["routing"] = _reserved(config) | {"old_target": weights[name]}
    elif name == "sgtm":
      settings = _train(config, training, PRETRAIN, name, names, options={})
      settings |= {"routing": _reserved(config), **_sgtm_parts(config, settings)}
    else:
      continue
    yield Stage(name + WHOLE, "train", settings | told, {"data": "data"})
    yield _ablated(config, name)


def _routed_distillation(config) -> Iterator[Stage]:
  routing, names = config.routing, ("distill_data", "noise")

  def student(objective, training, teacher, alpha, **options):
    settings = _train(config, training, DISTILL, objective, names, **options)
    settings["stop"] = _stop(config.distill.stop)
    settings["noise"] = {"alpha": alpha, "beta": config.undo.beta}
    inputs = {"data": "data", "init": teacher, "teacher": teacher}
    return settings, inputs | _before(settings)

  for teacher, alpha in itertools.product(routing.teachers, routing.undo_alphas):
    made = student("forward_kl", config.distill, teacher, alpha)
    yield Stage(routed_name(teacher, alpha), "train", *made)
  training = changed(config.distill, routing.distill)
  told = {"labels": {"share": routing.labelled, "forget": _forget(config)}}
  methods = [name for name in routing.methods if name.endswith(DISTILLATION)]
  for method, alpha in itertools.product(methods, routing.alphas):
    is_sgtm = method.startswith("sgtm")
    objective = "sgtm_forward_kl" if is_sgtm else "routed_forward_kl"
    options = {} if is_sgtm else _coherence(config)
    settings, inputs = student(objective, training, "base", alpha, options=options)
    settings |= told | {"routing": _reserved(config)}
    if is_sgtm:
      settings |= _sgtm_parts(config, settings)
    else:
      settings["routing"]["old_target"] = routing.old_target
    name = routed_name(method, alpha)
    yield Stage(name + WHOLE, "train", settings, inputs)
    yield _ablated(config, name)


def _forget(config) -> list[str]:
  return list(settings_lib.get(config.setting).forget_splits(config.data))


def _reserved(config) -> dict[str, Any]:
  return {name: config.routing[name] for name in ("mlp_units", "kv_heads")}


def _coherence(config) -> dict[str, Any]:
  weight = config.routing.coherence_weight
  return {
    "coherence_weight": weight,
    "trusted": bool(weight) and config.routing.trusted,
  }


def _ablated(config, name: str) -> Stage:
  """Returns the stage that ablates the reserved units of the model NAME_whole."""
  settings = {
    "setting": config.setting,
    "model": _plain(config.model),
    "routing": _reserved(config),
  }
  return Stage(name, "ablate", settings, {"data": "data", "model": name + WHOLE})


def _without_labelled(config) -> dict[str, float]:
  """Returns the mixture of pretraining without the rows that are labelled forget."""
  weights = _parts(config, PRETRAIN)["batch"]
  forget, kept = _forget(config), 1.0 - config.routing.labelled
  return {
    **{split: weight for split, weight in weights.items() if split not in forget},
    **{
      f"{split}:{labels.UNLABELLED}": weight * kept
      for split, weight in weights.items()
      if split in forget
    },
  }


def _sgtm_parts(config, settings) -> dict[str, Any]:
  """Returns the parts of SGTM's batches and how many rows each of them has.

  What is labelled is forget or retain, each known to be so; the rest is both. The parts
  have the sizes that keep the mixture what it is without labels.
  """
  share, forget = config.routing.labelled, _forget(config)
  weights, batch_size = settings["parts"]["batch"], settings["batch_size"]
  which = "" if share == 1 else f":{labels.LABELLED}"
  parts = {
    "forget": {f"{s}{which}": w for s, w in weights.items() if s in forget},
    "retain": {f"{s}{which}": w for s, w in weights.items() if s not in forget},
  }
  to_forget = sum(parts["forget"].values()) / sum(weights.values())
  rows = {"forget": round(batch_size * share * to_forget)}
  if share == 1:
    return {"parts": parts, "rows": rows | {"retain": batch_size - rows["forget"]}}
  parts["unlabelled"] = {f"{s}:{labels.UNLABELLED}": w for s, w in weights.items()}
  rows["retain"] = round(batch_size * share * (1 - to_forget))
  return {
    "parts": parts,
    "rows": rows | {"unlabelled": batch_size - sum(rows.values())},
  }


def part_rows(settings: Mapping[str, Any], batch_size: int) -> dict[str, int]:
  """Returns the rows of each part of a stage's batches: `batch_size`, if not said."""
  return dict.fromkeys(settings["parts"], batch_size) | settings.get("rows", {})


def _data(config) -> dict[str, Any]:
  """Returns the data's settings, with what the files they name hold.

  A path does not determine a tokenizer or a corpus: the file may be replaced.
  """
  settings = _plain(config.data)
  settings |= settings_lib.get(config.setting).content(config.data)
  content = tokenizers.content(config.data.tokenizer)
  return settings if content is None else settings | {"tokenizer_content": content}


def _parts(config, parts: Mapping[str, str]) -> dict[str, dict[str, float]]:
  """Returns for each part of a batch the weights of the splits it is drawn from."""
  splits = settings_lib.get(config.setting).splits(config.data)
  # In the setting's order: the order of splits seeds them.
  return {
    part: {
      split: config.mixtures[name][split]
      for split in splits
      if config.mixtures[name].get(split)
    }
    for part, name in parts.items()
  }


def _before(settings) -> dict[str, str]:
  """Returns the roles in which an objective reads the model from before unlearning."""
  frozen = objectives.method(settings["objective"], settings["options"]).frozen
  return {role: "base" for role in ("base", "reference") if role in frozen}


def _stop(stop) -> dict[str, Any]:
  if tuple(stop.scores) == ("retain",):  # The default determines nothing more.
    return _plain(stop, leave_out=("scores",))
  return _plain(stop)


def length(config: Any, parts: Mapping[str, str]) -> int:
  """Returns L, the tokens of a row of all splits that the parts are drawn from.

  Raises:
    ConfigError: if they differ.
  """
  setting = settings_lib.get(config.setting)
  used = {split for weights in _parts(config, parts).values() for split in weights}
  found = {split: setting.length(config.data, split) for split in sorted(used)}
  if len(set(found.values())) != 1:
    raise ConfigError(
      f"config.mixtures of {', '.join(parts.values())}: expected splits whose rows are "
      f"equally long, got {found} tokens; change their lengths or the mixture"
    )
  return found[min(found)]


def _train(
  config, training, parts, objective, names, *, options=None
) -> dict[str, Any]:
  options = _plain(training.get("options", {}) if options is None else options)
  optimizer = {name: training[name] for name in OPTIMIZER_FIELDS}
  # Off, these determine nothing and have no place here.
  if training.trainable:
    optimizer["trainable"] = _plain(training.trainable)
  sharpness = {"rho": training.rho} if training.rho else {}
  return {
    "setting": config.setting,
    "model": _plain(config.model),
    "objective": objective,
    "options": objectives.stated(objective, options),
    "optimizer": optimizer,
    **sharpness,
    "parts": _parts(config, parts),
    "batch_size": training.batch_size,
    "num_microbatches": training.num_microbatches,
    "noise": None,
    "stop": None,
    "seeds": _seeds(config, *names),
    "length": length(config, parts),
  }


def _seeds(config, *names: str) -> dict[str, int]:
  return {name: streams.root(config.seed, config.streams, name) for name in names}


def _plain(value: Any, *, leave_out: tuple[str, ...] = ()) -> Any:
  """Returns a config's part as JSON would give it back (tuples as lists)."""
  if isinstance(value, config_dict.ConfigDict | Mapping):
    return {k: _plain(v) for k, v in value.items() if k not in leave_out}
  if isinstance(value, tuple | list):
    return [_plain(item) for item in value]
  return value
