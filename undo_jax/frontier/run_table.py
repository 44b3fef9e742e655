"""The table of every seed: the results of each run, and where its files are."""

from collections.abc import Sequence

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import warnings
from undo_jax.frontier.figures.charts import config_link
from undo_jax.frontier.figures.style import attack_labels, budget_title, model_styles
from undo_jax.frontier.formats import ABSENT, NOT_ATTACKED, count
from undo_jax.frontier.results import ModelRun, Relearning, Results, Score
from undo_jax.frontier.tables import Row, Table
from undo_jax.frontier.warnings import About, Caution


def runs(results: Results) -> Table:
  """Return a row for each model and seed; its last cell is the run's directory."""
  budgets = rb.budgets(results)
  head = ["model", "seed", "retain", "forget"]
  for budget in budgets:
    title = budget_title(budget, budgets)
    head += [f"worst forget {title}", f"by, {title}"]
  head += ["updates", "FLOPs", "stopped", "run directory"]
  styles = model_styles(results)
  cautions = warnings.cautions(results)
  rows = [
    Row(
      name=name,
      label=styles[name].label,
      color=styles[name].color,
      cells=tuple(_cells(results, run, budgets)),
      method=styles[name].method,
      link=config_link(run),
      marks=tuple(_marks(results, name, run, budgets, cautions)),
    )
    for name, model in results.models.items()
    for run in model.runs
  ]
  return Table(tuple(head), tuple(rows))


def _cells(results: Results, run: ModelRun, budgets: tuple[int, ...]) -> list[str]:
  cells = [str(run.seed), _score(run.before.retain), _score(run.before.forget)]
  for budget in budgets:
    cells += _worst(results, run, budget)
  cells += [count(run.compute.updates), f"{run.compute.flops:.3g}"]
  return [*cells, run.stopped.reason, run.directory]


def _marks(
  results: Results,
  name: str,
  run: ModelRun,
  budgets: tuple[int, ...],
  cautions: Sequence[Caution],
) -> list[str]:
  """Return the warning beside each cell, those of other attacks and seeds left out."""

  def said(about: About, attack: str | None = None) -> str:
    return " ".join(
      each.text
      for each in cautions
      if each.model == name
      and each.about == about
      and run.seed in each.seeds
      and each.attack in (None, attack)
    )

  marks = ["", said("before"), said("before")]
  for budget in budgets:
    under = _strongest(results, run, budget)
    names = [attack for attack, each in run.attacks.items() if each is under]
    marks += ["", said("worst", *names)]
  return [*marks, said("updates"), "", "", ""]


def _strongest(results: Results, run: ModelRun, budget: int) -> Relearning | None:
  return rb.strongest(
    run,
    rb.counted(results),
    budget,
    higher_is_worse=higher_is_worse(results.metrics["forget"]),
  )


def _worst(results: Results, run: ModelRun, budget: int) -> list[str]:
  """Return the worst forget score, and which attack at which rate it is of."""
  under = _strongest(results, run, budget)
  if under is None:
    return [NOT_ATTACKED, ABSENT]
  step = rb.step_index(under.steps, budget)
  rate = f"{under.worst_learning_rate[step]:g}"
  if len(results.attacks) > 1:
    rate = f"{_name(results, run, under)}, {rate}"
  return [_score(under.worst_forget[step]), rate]


def _name(results: Results, run: ModelRun, under: Relearning) -> str:
  labels = attack_labels(results)
  return next(labels[name] for name, each in run.attacks.items() if each is under)


def _score(score: Score) -> str:
  return ABSENT if score is None else f"{score:.3f}".replace("-", "−")
