"""Model cards: what a model was made from, by which stages, data, seeds and compute."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from undo_jax import files
from undo_jax.frontier.compute import Compute
from undo_jax.models.config import ModelConfig, num_params


@dataclasses.dataclass(frozen=True)
class Entry:
  """One stage of a model's history: its config.json and its done.json."""

  stage: Mapping[str, Any]
  outcome: Mapping[str, Any]


def is_attack(directory: pathlib.Path) -> bool:
  """Whether a directory is that of an attack's stage."""
  if not (directory / "done.json").is_file():
    return False
  return files.read_json(directory / "config.json").get("kind") == "attack"


def history(directory: pathlib.Path) -> list[Entry]:
  """Returns the stages that led to a stage, itself last.

  Args:
    directory: WORKDIR/stages/<name>-<identity>, finished.
  """
  found: dict[str, Entry] = {}

  def visit(directory):
    stage = files.read_json(directory / "config.json")
    for name in stage["input_directories"].values():
      if name not in found:
        visit(directory.parent / name)
    found[directory.name] = Entry(stage, files.read_json(directory / "done.json"))

  visit(directory)
  return list(found.values())


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
    "FLOPs, teacher passes included; those of a given model are not known, those of "
    "an attack not counted.",
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
  for entry in entries:
    stage = entry.stage
    if stage["kind"] == "given":
      name = pathlib.PurePath(stage["path"]).name
      return f"{name} (content {stage['settings']['fingerprint']})"
  first = next(entry.stage for entry in entries if entry.stage["kind"] == "train")
  return f"none, {first['name']} was trained from random weights"


def _row(entry) -> str:
  stage, outcome = entry.stage, entry.outcome
  if stage["kind"] == "attack":
    attack = stage["settings"]["attack"]
    trained = "LoRA adapters" if attack.get("lora") else "all weights"
    what = f"relearning of {trained} on forget data"
    return f"| {stage['name']} | {what} | {attack['num_steps']} | | | |"
  scores = outcome["scores"]
  what = "given" if stage["kind"] == "given" else _what(stage["settings"])
  return (
    f"| {stage['name']} | {what} | {outcome['updates']} | {scores['retain']:.3f} | "
    f"{scores['forget']:.3f} | {outcome['compute']['flops']:.3g} |"
  )


def _what(settings) -> str:
  parts = ", ".join(sorted({d for ds in settings["parts"].values() for d in ds}))
  text = f"{settings['objective']} on {parts} data"
  noise = settings["noise"]
  if noise is not None:
    text += f", after noise of alpha {noise['alpha']:g}, beta {noise['beta']:g}"
  return text


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
