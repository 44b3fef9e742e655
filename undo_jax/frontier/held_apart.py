"""What the page says of the items that are attacked, scored and read by stop rules."""

from collections.abc import Mapping

from undo_jax.frontier.figures.style import attack_labels
from undo_jax.frontier.formats import count
from undo_jax.frontier.results import Apart, Results

ATTACKED = "attacked"


def sentences(results: Results) -> list[str]:
  """Return what each data stage compared, not escaped, and who reads more than that.

  Data stages of equal items are one sentence, with the seeds of all.
  """
  seeds: dict[str, list[int]] = {}
  for each in results.apart:
    seeds.setdefault(_said(each), []).extend(each.seeds)
  texts = [f"{_of(own)}{text}" for text, own in seeds.items()]
  return [*texts, *_readers(results)]


def _of(seeds: list[int]) -> str:
  names = ", ".join(map(str, dict.fromkeys(seeds)))
  return f"Seed{'' if len({*seeds}) == 1 else 's'} {names}: "


def _said(apart: Apart) -> str:
  parts = [f"{count(number)} are {kind}" for kind, number in apart.items.items()]
  text = f"of {apart.what} {', '.join(parts)}"
  if ATTACKED in apart.items:
    text += f"; {apart.shared} are of two of these kinds, by their hashes"
  return f"{text}. {apart.note}".strip()


def _readers(results: Results) -> list[str]:
  """Say which attacks read splits that hold scored items."""
  others = {split for each in results.apart for split in each.others}
  checked = {split for each in results.apart for split in each.splits}
  texts = []
  for name, label in attack_labels(results).items():
    described = results.protocol["attacks"].get(name)
    mixture = described.get("mixture") if isinstance(described, Mapping) else None
    read = [split for split in mixture or {} if split in others - checked]
    if read:
      texts.append(
        f"{label} reads {', '.join(read)}, where scored items are too: what it wins "
        "back may be what it has read."
      )
  return texts
