"""The table of a search: the values chosen for each model, and the search's cost."""

import dataclasses

from undo_jax.frontier import search_results
from undo_jax.frontier.formats import ABSENT
from undo_jax.frontier.search_results import Chosen, SearchedModel, SearchResults
from undo_jax.plan.search import NEAR
from undo_jax.utils import files

HEAD = (
  "model",
  "trials",
  "within the bounds",
  "chosen",
  "retain",
  "worst forget",
  "compute / data filtering",
  "search / pretraining",
)


@dataclasses.dataclass(frozen=True)
class Searched:
  """A search as the page of a run shows it."""

  head: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  note: str


def of_run(workdir: files.Path) -> Searched | None:
  """Return the search in the workdir of a run, None if there is none.

  The last column says whether the run has what was chosen.
  """
  path = search_results.path(workdir)
  if not path.exists():
    return None
  searched, config = search_results.read(path), workdir / "config.json"
  if not config.exists():
    return Searched(HEAD, tuple(rows(searched)), note(searched))
  run = files.read_record(config)
  used = (search_results.is_used(run, searched, name) for name in searched.models)
  whole = [
    (*row, "yes" if u else "no") for row, u in zip(rows(searched), used, strict=True)
  ]
  return Searched((*HEAD, "in the tables"), tuple(whole), note(searched))


def note(searched: SearchResults) -> str:
  """Say what a search did, in sentences."""
  search = searched.search
  seeds = ", ".join(map(str, search.seeds))
  bounds = f"at least {search.smallest_retain:g} of the base's retain score"
  if search.largest_compute is not None:
    bounds += f" and at most {search.largest_compute:g} of data filtering's compute"
  if search.largest_divergence is not None:
    bounds += (
      f" and a KL from the base of at most {search.largest_divergence:g} nats per "
      f"token of {search.divergence_mixture}"
    )
  return (
    f"{search.trials} trials of each model, scored on validation items alone, with "
    f"seed {seeds} and the attack {search.attack}, neither of which the tables have; "
    f"within the bounds are those with {bounds}. A value within {NEAR:.0%} of an end "
    "of its range is at its edge."
  )


def rows(searched: SearchResults) -> list[tuple[str, ...]]:
  """Return a row for each searched model, under HEAD.

  Scores are those of validation items, after the search's own attack.
  """
  return [_row(searched, name, model) for name, model in searched.models.items()]


def _row(searched: SearchResults, name: str, model: SearchedModel) -> tuple[str, ...]:
  feasible = sum(trial.state == "complete" for trial in model.trials)
  chosen = next((t for t in model.trials if t.number == model.chosen), None)
  values = ", ".join(_value(*each) for each in model.values.items()) or "none"
  spent = model.training_flops + model.attack_flops
  scores = (
    (chosen.retain, chosen.worst_forget, chosen.compute) if chosen else (None,) * 3
  )
  return (
    name,
    str(len(model.trials)),
    str(feasible),
    values,
    *(ABSENT if score is None else f"{score:.3f}" for score in scores),
    ABSENT if not searched.base_flops else f"{spent / searched.base_flops:.1%}",
  )


def _value(name: str, chosen: Chosen) -> str:
  value = chosen.value
  shown = f"{value:.3g}" if isinstance(value, float) else str(value)
  return f"{name} {shown}" + (f" ({chosen.edge} edge)" if chosen.edge else "")
