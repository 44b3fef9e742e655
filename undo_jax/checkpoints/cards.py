"""Model cards: what a model was made from, by which stages, data, seeds and compute."""

from collections.abc import Sequence
import dataclasses
import json
import pathlib

from undo_jax import attacks
from undo_jax.frontier.compute import Compute
from undo_jax.models.config import ModelConfig, num_params
from undo_jax.plan import stages
from undo_jax.plan.stages import (
  AblateStage,
  AttackStage,
  DataStage,
  GivenStage,
  PredictionsStage,
  SaliencyStage,
  SelectionStage,
  Stage,
  TrainStage,
)
from undo_jax.utils import files, tables
from undo_jax.utils.types import ConfigError, JsonObject

FILE = "undo_jax.json"
SCHEMA = 2
HEADER = ("stage", "what", "updates", "retain", "forget", "FLOPs")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One stage of a model's history: its config.json and its done.json."""

  stage: Stage
  outcome: JsonObject
  path: str | None = None  # Of the checkpoint that a given model is.


def is_attack(directory: pathlib.Path) -> bool:
  """Whether a directory is that of an attack's stage."""
  done = (directory / "done.json").is_file()
  return done and isinstance(last(directory), AttackStage)


def last(directory: pathlib.Path) -> Stage:
  """Return the stage of a directory."""
  path = directory / "config.json"
  return stages.from_json(files.read_record(path), path=str(path))


def inputs(directory: pathlib.Path) -> dict[str, pathlib.Path]:
  """Return the directories of a stage's inputs by role."""
  path = directory / "config.json"
  names = files.read_record(path).get("input_directories")
  if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
    raise ConfigError(f"{path}: expected input_directories, their names by role")
  return {role: directory.parent / name for role, name in names.items()}


def history(directory: pathlib.Path) -> list[Entry]:
  """Return the stages that led to a model, the last one last.

  A model that a run was given brings its own history, be it a stage of another run
  or a directory that `save` has written to.

  Args:
    directory: WORKDIR/stages/<name>-<identity>, finished, or one of Hugging Face.
  """
  known: dict[str, Entry] = {}
  visited: set[pathlib.Path] = set()

  def visit(directory: pathlib.Path) -> None:
    if directory in visited:
      raise ConfigError(f"{directory}: its config.json says that it led to itself")
    visited.add(directory)
    for i, entry in enumerate(_saved(directory)):
      known[f"{directory} {i}"] = entry
    if not (directory / "done.json").is_file():
      return  # Another's model, or a run that was moved away.
    stage, path = last(directory), None
    before = [*inputs(directory).values()]
    if isinstance(stage, GivenStage):
      path = files.read_record(directory / "config.json")["path"]
      before.append(pathlib.Path(path))
    for other in before:
      if other.name not in known:
        visit(other)
    outcome = files.read_record(directory / "done.json")
    known[directory.name] = Entry(stage, outcome, path)

  visit(directory)
  return list(known.values())


def save(directory: pathlib.Path, entries: Sequence[Entry]) -> None:
  """Write a history for `history` to read, without the paths of this machine."""
  described = [
    {
      "stage": stages.to_json(entry.stage),
      "outcome": entry.outcome,
      "path": entry.path and pathlib.PurePath(entry.path).name,
    }
    for entry in entries
  ]
  content = {"schema": SCHEMA, "history": described}
  files.write_json(directory / FILE, content)


def _saved(directory: pathlib.Path) -> list[Entry]:
  """Return the history that `save` wrote, if there is one of this version.

  Raises:
    ConfigError: if it is not as `save` writes one.
  """
  path = directory / FILE
  content = files.read_record(path) if path.is_file() else {}
  if content.get("schema") != SCHEMA:
    return []  # Of another version: nothing is known of it.
  try:
    entries = [
      Entry(
        stages.from_json(entry["stage"], path=str(path)),
        entry["outcome"],
        entry["path"] and str(entry["path"]),
      )
      for entry in content["history"]
    ]
    _history_lines(entries)  # Has all that a card needs.
  except ConfigError:
    raise
  except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
    raise ConfigError(
      f"{path} holds no history of a model as an export writes it ({error!r:.80}); "
      "copy it again, or remove it"
    ) from None
  return entries


def tokenizer(entries: Sequence[Entry]) -> str | None:
  """Return the name of the tokenizer that a history's data were made with."""
  for entry in entries:
    if isinstance(entry.stage, DataStage):
      return entry.stage.data["tokenizer"]
  return None


def render(title: str, entries: Sequence[Entry], config: ModelConfig) -> str:
  """Return a README.md for the model, in Markdown with a YAML head.

  Args:
    title: the model's name.
    entries: its history, empty for a converted model of which nothing is known.
    config: the model.
  """
  lines = [
    "---",
    "library_name: transformers",
    "pipeline_tag: text-generation",
    "tags: [undo_jax, unlearning]",
    *_metadata(entries),
    "# license: yours to choose, and the base model's to allow.",
    "---",
    "",
    f"# {title}",
    "",
    f"{num_params(config):,} parameters; made with undo_jax.",
  ]
  return "\n".join([*lines, *_history_lines(entries)]) + "\n"


def _history_lines(entries: Sequence[Entry]) -> list[str]:
  """Return the lines of a card that tell a history."""
  if not entries:
    return ["", "Converted from a checkpoint; its stages are not known."]
  lines = ["", f"Base model: {_base(entries)}.", "", "## Stages", ""]
  rows = [_row(entry) for entry in entries if not isinstance(entry.stage, DataStage)]
  lines.append(tables.markdown(HEADER, rows))
  total = sum(
    (Compute(**e.outcome["compute"]) for e in entries if "compute" in e.outcome),
    start=Compute(),
  )
  lines += [
    "",
    f"In all {total.updates:,} updates on {total.tokens:,} tokens, {total.flops:.3g} "
    "FLOPs, teacher passes included; what a model cost before it was first given is "
    "not known, attacks are not counted.",
    "",
    "Scores are on the run's evaluation data, before any attack unless the last stage "
    "is one. They say nothing about attacks other than those that were run.",
    "",
    "## Data and seeds",
    "",
  ]
  for entry in entries:
    lines += _details(entry)
  return lines


def _metadata(entries: Sequence[Entry]) -> list[str]:
  """Return what the Hub reads of a model's origin; names are those of directories."""
  given = [e for e in entries if isinstance(e.stage, GivenStage) and e.path]
  tasks = [entry.stage.task for entry in entries if isinstance(entry.stage, DataStage)]
  lines = []
  if given:
    name = pathlib.PurePath(str(given[0].path)).name
    lines.append(f"base_model: {json.dumps(name)}")
  if tasks:
    listed = ", ".join(json.dumps(task) for task in dict.fromkeys(tasks))
    lines.append(f"datasets: [{listed}]")
  return lines


def _base(entries: Sequence[Entry]) -> str:
  of_data = DataStage, SelectionStage
  first = next(entry for entry in entries if not isinstance(entry.stage, of_data))
  if isinstance(first.stage, GivenStage):
    name = pathlib.PurePath(str(first.path)).name
    return f"{name} (content {first.stage.fingerprint})"
  return f"none, {first.stage.name} was trained from random weights"


def _row(entry: Entry) -> list[object]:
  stage, outcome = entry.stage, entry.outcome
  if isinstance(stage, AttackStage):
    attack = attacks.REGISTRY.recorded(stage.adversary)
    name = f"what `{stage.adversary}` trains"
    trained = attack.describe(stage.options) if attack else name
    trained = "a part of the weights" if stage.trainable else trained
    what = f"relearning of {trained} on forget data"
    return [stage.name, what, stage.optimizer.num_steps, "", "", ""]
  flops = f"{outcome['compute']['flops']:.3g}"
  if isinstance(stage, SaliencyStage):
    what = f"squared gradients of {stage.source}, {outcome['batches']} batches a part"
    return [stage.name, what, "", "", "", flops]
  if isinstance(stage, PredictionsStage):
    what = f"predictions of {stage.source}, {outcome['predicted']} rows"
    return [stage.name, what, "", "", "", flops]
  if isinstance(stage, SelectionStage):
    labelled = sum(outcome["labelled"].values())
    precision, recall = (f"{outcome[name]:.3f}" for name in ("precision", "recall"))
    what = f"rows selected by {labelled} labelled ones, precision {precision}"
    return [stage.name, f"{what}, recall {recall}", "", "", "", flops]
  scores = (outcome["scores"][name] for name in ("retain", "forget"))
  retain, forget = ("" if score is None else f"{score:.3f}" for score in scores)
  return [stage.name, _what(stage), outcome["updates"], retain, forget, flops]


def _what(stage: Stage) -> str:
  """Return how a model was made, in a few words."""
  if isinstance(stage, AblateStage):
    reserve = stage.reserve
    return (
      f"the reserved {reserve.mlp_units} MLP units and {reserve.kv_heads} "
      "key/value heads of each layer set to zero"
    )
  if not isinstance(stage, TrainStage):
    return "given"
  parts = ", ".join(sorted({split for ds in stage.parts.values() for split in ds}))
  text = f"{stage.objective} on {parts} data"
  if stage.rho:
    text += f", sharpness-aware with rho {stage.rho:g}"
  if stage.trained is not None:
    text += f", of {stage.trained.share:g} of the weights by {stage.trained.by}"
  if stage.optimizer.displacement != 1:
    text += f", {stage.optimizer.displacement:g} times as far from its start"
  if stage.smoothing is not None:
    how = stage.smoothing
    text += f", smoothed ({how.kind}, radius {how.radius:g}, weight {how.weight:g})"
  if stage.noise is not None:
    text += f", after noise of alpha {stage.noise.alpha:g}, beta {stage.noise.beta:g}"
    text += ", other alphas by path" if stage.noise.rules else ""
    text += f", normal noise of std {stage.noise.std:g}" if stage.noise.std else ""
    shape, again = stage.noise_shape, stage.noise_again
    text += "" if shape is None else f", of weights chosen by {shape.by}"
    text += "" if again is None else f", and {again.times} times more in training"
  if stage.labels is not None:
    text += f", {stage.labels.share:.3g} of the rows labelled"
  return text


def _details(entry: Entry) -> list[str]:
  stage, lines = entry.stage, []
  if isinstance(stage, DataStage):
    pairs = ", ".join(f"{k} {v}" for k, v in sorted(stage.data.items()))
    lines.append(f"- {stage.task} data: {pairs}")
  if isinstance(
    stage, DataStage | SaliencyStage | SelectionStage | TrainStage | AttackStage
  ) and (stage.seeds):
    seeds = ", ".join(f"{k} {v}" for k, v in sorted(stage.seeds.items()))
    lines.append(f"- seeds of {stage.name}: {seeds}")
  return lines
