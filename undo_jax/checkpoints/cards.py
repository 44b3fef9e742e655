"""Model cards: what a model was made from, by which stages, data, seeds and compute."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from undo_jax.frontier.compute import Compute
from undo_jax.models.config import ModelConfig, num_params
from undo_jax.utils import files

FILE = "undo_jax.json"


@dataclasses.dataclass(frozen=True)
class Entry:
  """One stage of a model's history: its config.json and its done.json."""

  stage: Mapping[str, Any]
  outcome: Mapping[str, Any]


def is_attack(directory: pathlib.Path) -> bool:
  """Whether a directory is that of an attack's stage."""
  if not (directory / "done.json").is_file():
    return False
  return last(directory).get("kind") == "attack"


def last(directory: pathlib.Path) -> dict[str, Any]:
  """Returns a stage's config.json."""
  return files.read_json(directory / "config.json")


def history(directory: pathlib.Path) -> list[Entry]:
  """Returns the stages that led to a model, the last one last.

  A model that a run was given brings its own history, be it a stage of another run
  or a directory that `save` has written to.

  Args:
    directory: WORKDIR/stages/<name>-<identity>, finished, or one of Hugging Face.
  """
  found: dict[str, Entry] = {}

  def visit(directory):
    if (directory / FILE).is_file():
      for i, entry in enumerate(files.read_json(directory / FILE)["history"]):
        found[f"{directory} {i}"] = Entry(**entry)
    if not (directory / "done.json").is_file():
      return  # Another's model, or a run that was moved away.
    stage = last(directory)
    before = [directory.parent / name for name in stage["input_directories"].values()]
    before += [pathlib.Path(stage["path"])] if stage["kind"] == "given" else []
    for other in before:
      if other.name not in found:
        visit(other)
    found[directory.name] = Entry(stage, files.read_json(directory / "done.json"))

  visit(directory)
  return list(found.values())


def save(directory: pathlib.Path, entries: Sequence[Entry]) -> None:
  """Writes a history for `history` to read, without the paths of this machine."""
  described = []
  for entry in entries:
    stage = dict(entry.stage)
    if "path" in stage:
      stage["path"] = pathlib.PurePath(stage["path"]).name
    described.append({"stage": stage, "outcome": entry.outcome})
  files.write_json(directory / FILE, {"schema": 1, "history": described})


def tokenizer(entries: Sequence[Entry]) -> str | None:
  """Returns the name of the tokenizer that a history's data were made with."""
  for entry in entries:
    if entry.stage["kind"] == "data":
      return entry.stage["settings"]["data"]["tokenizer"]
  return None


def render(title: str, entries: Sequence[Entry], config: ModelConfig) -> str:
  """Returns a README.md for the model, in Markdown with a YAML head.

  Args:
    title: the model's name.
    entries: its history, empty for a converted model of which nothing is known.
    config: the model.
  """
  lines = [
    "---",
    "library_name: transformers",
    "tags: [undo_jax, unlearning]",
    "---",
    "",
    f"# {title}",
    "",
    f"{num_params(config):,} parameters; made with undo_jax.",
  ]
  if not entries:
    lines += ["", "Converted from a checkpoint; its stages are not known."]
    return "\n".join(lines) + "\n"
  lines += ["", f"Base model: {_base(entries)}.", "", "## Stages", ""]
  lines += [
    "| stage | what | updates | retain | forget | FLOPs |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  lines += [_row(entry) for entry in entries if entry.stage["kind"] != "data"]
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
  return "\n".join(lines) + "\n"


def _base(entries) -> str:
  first = next(entry.stage for entry in entries if entry.stage["kind"] != "data")
  if first["kind"] == "given":
    name = pathlib.PurePath(first["path"]).name
    return f"{name} (content {first['settings']['fingerprint']})"
  return f"none, {first['name']} was trained from random weights"


def _row(entry) -> str:
  stage, outcome = entry.stage, entry.outcome
  if stage["kind"] == "attack":
    attack = stage["settings"]["attack"]
    trained = "a part of the weights" if "trainable" in attack else "all weights"
    trained = "LoRA adapters" if attack.get("lora") else trained
    what = f"relearning of {trained} on forget data"
    return f"| {stage['name']} | {what} | {attack['num_steps']} | | | |"
  scores = outcome["scores"]
  describe = {"given": lambda settings: "given", "ablate": _what_is_ablated}
  what = describe.get(stage["kind"], _what)(stage["settings"])
  return (
    f"| {stage['name']} | {what} | {outcome['updates']} | {scores['retain']:.3f} | "
    f"{scores['forget']:.3f} | {outcome['compute']['flops']:.3g} |"
  )


def _what(settings) -> str:
  parts = ", ".join(sorted({d for ds in settings["parts"].values() for d in ds}))
  text = f"{settings['objective']} on {parts} data"
  if "rho" in settings:
    text += f", sharpness-aware with rho {settings['rho']:g}"
  noise = settings["noise"]
  if noise is not None:
    text += f", after noise of alpha {noise['alpha']:g}, beta {noise['beta']:g}"
  if "labels" in settings:
    text += f", {settings['labels']['share']:.3g} of the rows labelled"
  return text


def _what_is_ablated(settings) -> str:
  routing = settings["routing"]
  return (
    f"the reserved {routing['mlp_units']} MLP units and {routing['kv_heads']} "
    "key/value heads of each layer set to zero"
  )


def _details(entry) -> list[str]:
  settings = entry.stage["settings"]
  lines = []
  if entry.stage["kind"] == "data":
    pairs = ", ".join(f"{k} {v}" for k, v in sorted(settings["data"].items()))
    lines.append(f"- {settings['setting']} data: {pairs}")
  seeds = ", ".join(f"{k} {v}" for k, v in sorted(settings.get("seeds", {}).items()))
  if seeds:
    lines.append(f"- seeds of {entry.stage['name']}: {seeds}")
  return lines
