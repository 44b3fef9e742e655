"""The forget score by learning rate of an attack, and which rate was the worst."""

from collections.abc import Sequence
import math

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.figures import charts, heat_map, style
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.formats import significant
from undo_jax.frontier.results import ModelRun, Results, Score


def draw(results: Results, width: int) -> Spec:
  """Draw a panel an attack: a row a model, a column a learning rate or a strength."""
  panels, titles = [], []
  by_attack = cells(results)
  for name, of_attack in by_attack.items():
    attack, label = results.attacks[name], style.attack_labels(results)[name]
    rates = sorted({row["rate"] for row in of_attack})
    title = label if len(results.attacks) > 1 else None
    panels.append((title, [f"{rate:g}" for rate in rates], of_attack))
    titles.append(attack.strength or attack.grid)
  is_plain = not any(attack.is_edit for attack in results.attacks.values())
  tooltip = charts.tooltips(
    model="model",
    column="learning rate" if is_plain else "at",
    words="forget",
    worst="the worst rate of" if is_plain else "the worst of",
    seed="seed",
    run="run",
  )
  attacked = {cell["model"] for of_attack in by_attack.values() for cell in of_attack}
  styles = [s for s in style.model_styles(results).values() if s.label in attacked]
  return heat_map.draw(panels, styles, width, axis_titles=titles, tooltip=tooltip)


def cells(results: Results) -> dict[str, list[Row]]:
  """Return a cell for each model and rate, by attack; one scale is all of theirs.

  A cell is the mean over seeds at the last budget, and its "edge" the share of the
  seeds of which the rate was the worst, or one of them.
  """
  metric, scores = results.metrics["forget"], _scores(results)
  means = {key: _mean([score for score, _ in each]) for key, each in scores.items()}
  extent = heat_map.extent([v for v in means.values() if v is not None], metric)
  looks = style.model_styles(results)
  by_attack: dict[str, list[Row]] = {}
  for (attack, name, rate), each in scores.items():
    value, worst = means[attack, name, rate], sum(is_worst for _, is_worst in each)
    cell = {
      "model": looks[name].label,
      "method": looks[name].method,
      "column": f"{rate:g}",
      "rate": rate,
      "value": value,
      "text": "×" if value is None else f"{value:.2f}",
      "words": "diverged" if value is None else f"{value:.3f}",
      "worst": f"{worst} of {len(each)} seeds",
      "edge": worst / len(each),
      **charts.of_runs(results.models[name].runs, link=False),
      **heat_map.cell(value, metric, extent),
    }
    by_attack.setdefault(attack, []).append(cell)
  return by_attack


def _scores(
  results: Results,
) -> dict[tuple[str, str, float], list[tuple[Score, bool]]]:
  """Return the seeds' scores of each attack, model and rate: the worst or not."""
  budget = rb.budgets(results)[-1]
  most_capable = max if higher_is_worse(results.metrics["forget"]) else min
  scores: dict[tuple[str, str, float], list[tuple[Score, bool]]] = {}
  for attack in results.attacks:
    for name, run in _attacked(results, attack):
      under = run.attacks[attack]
      step = rb.step_index(under.steps, budget)
      at_step = [of_rate[step] for of_rate in under.forget_by_learning_rate]
      worst = most_capable((s for s in at_step if s is not None), default=None)
      by_rate = zip(under.learning_rates, under.forget_by_learning_rate, strict=True)
      for rate, of_rate in by_rate:
        is_worst = of_rate[step] == worst
        scores.setdefault((attack, name, rate), []).append((of_rate[step], is_worst))
  return scores


def _attacked(results: Results, attack: str) -> list[tuple[str, ModelRun]]:
  return [
    (name, run)
    for name, model in results.models.items()
    for run in model.runs
    if attack in run.attacks
  ]


def _mean(values: Sequence[float | None]) -> float | None:
  """Return the mean of seeds; None where one has diverged."""
  if any(value is None for value in values):
    return None
  return significant(math.fsum(v for v in values if v is not None) / len(values))


FIGURE = Figure(
  draw=draw,
  title="Score by learning rate",
  caption=(
    "The forget score at each learning rate of an attack at its last step, or at each "
    "strength of an edit; the outline marks the worst, fainter where it is that of "
    "some seeds only. An outline in the first or last column means that a rate outside "
    "the grid might be worse. ×: no finite score."
  ),
  needs=("attack",),
)
