"""What each attack wins back from each model, as a heat map."""

from collections.abc import Mapping, Sequence

from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import charts, heat_map, style
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.formats import ABSENT, number, significant
from undo_jax.frontier.results import Results


def draw(results: Results, width: int) -> Spec:
  """Draw a panel a budget: a row a model, a column an attack and their worst case."""
  budgets = rb.budgets(results)
  columns: dict[str, Sequence[str]] = {
    label: (name,) for name, label in style.attack_labels(results).items()
  }
  if len(columns) > 1:
    columns["worst case"] = rb.counted(results)
  shown = cells(results, columns)
  panels = [
    (style.budget_title(budget, budgets), list(columns), shown[budget])
    for budget in budgets
  ]
  axis_title = None
  if len(columns) == 1:  # One panel, a column a budget.
    names = {budget: f"after {budget}" for budget in budgets}
    row = [
      cell | {"column": names[b]}
      for b, of_budget in shown.items()
      for cell in of_budget
    ]
    panels = [(None, list(names.values()), row)]
    axis_title = "relearning updates"
  tooltip = charts.tooltips(
    model="model", column="attack", words="worst forget", seed="seed", run="run"
  )
  attacked = {cell["model"] for of_budget in shown.values() for cell in of_budget}
  styles = [s for s in style.model_styles(results).values() if s.label in attacked]
  titles = [axis_title] * len(panels)
  return heat_map.draw(panels, styles, width, axis_titles=titles, tooltip=tooltip)


def cells(
  results: Results, columns: Mapping[str, Sequence[str]]
) -> dict[int, list[Row]]:
  """Return a cell for each model and column, by budget; one scale is all of theirs.

  Models that were not attacked have none.

  Args:
    results: the results.
    columns: a label, and the attacks that its cells are over.
  """
  metric = results.metrics["forget"]
  scores = {
    (budget, name, label): statistics.worst_forget(results, name, budget, attacks)
    for budget in rb.budgets(results)
    for name, model in results.models.items()
    if any(attack in run.attacks for run in model.runs for attack in results.attacks)
    for label, attacks in columns.items()
  }
  known = [score.value for score in scores.values() if score is not None]
  extent = heat_map.extent(known, metric)
  looks = style.model_styles(results)
  by_budget: dict[int, list[Row]] = {}
  for (budget, name, label), score in scores.items():
    value = None if score is None else score.value
    cell = {
      "model": looks[name].label,
      "method": looks[name].method,
      "column": label,
      "value": None if value is None else significant(value),
      "text": ABSENT if value is None else f"{value:.2f}",
      "words": number(score),
      "edge": 0,
      **charts.of_runs(results.models[name].runs, link=False),
      **heat_map.cell(value, metric, extent),
    }
    by_budget.setdefault(budget, []).append(cell)
  return by_budget


FIGURE = Figure(
  draw=draw,
  title="Attack by defense",
  caption=(
    "The worst forget score by model and attack, over learning rates or strengths, as "
    "means over the seeds. The stronger the color, the more of the capability is back."
  ),
  needs=("attack",),
)
