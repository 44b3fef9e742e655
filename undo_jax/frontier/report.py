"""Write the report of results: figures and one self-contained page."""

import os

import jinja2

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import figures, rivals, tables
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.figures.style import attack_labels, model_styles
from undo_jax.frontier.results import Adversary, Metric, Results
from undo_jax.frontier.statistics import reference
from undo_jax.frontier.warnings import warnings
from undo_jax.utils import files
from undo_jax.utils.tables import text

_TEMPLATE = "report.html.jinja"


def write(results: Results, directory: str | os.PathLike[str]) -> list[files.Path]:
  """Write figures/*.png and report.html; equal results give equal bytes.

  Args:
    results: the results.
    directory: where to write; made if absent.

  Returns:
    The paths written, the page last.
  """
  directory = files.path(directory)
  parts = {f"figures/{k}": v for k, v in figures.draw_all(results).items()}
  parts["report.html"] = page(results).encode()
  for name, data in parts.items():
    files.update(directory / name, data)
  return [directory / name for name in parts]


def page(results: Results) -> str:
  """Compose the page.

  Args:
    results: the results.

  Returns:
    HTML without scripts; every string of the results is escaped.
  """
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("undo_jax.frontier"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  labels = {name: style.label for name, style in model_styles(results).items()}
  attacks = attack_labels(results)
  roles = ("base", "filtered", "unlearned")
  return environment.get_template(_TEMPLATE).render(
    results=results,
    roles={role: labels.get(reference(results, role) or "") for role in roles},
    more_is_worse=higher_is_worse(results.metrics["forget"]),
    trained=[(label, trained(results.attacks[n])) for n, label in attacks.items()],
    counted=[attacks[name] for name in rb.counted(results)],
    after=tables.after_budgets(results),
    main=tables.main(results),
    by_attack=tables.by_attack(results),
    ablations=tables.ablations(results),
    beside_rival=tables.beside_rival(results, labels.__getitem__),
    slack=rivals.SLACK,
    warnings=warnings(results),
    figures=figures.chosen(results),
    missing={
      n: figures.missing(results, f) for n, f in figures.chosen(results).items()
    },
    by_task=tables.by_task,
    ranges={name: score_range(metric) for name, metric in results.metrics.items()},
  )


def text_table(results: Results) -> str:
  """Tabulate what a terminal shows at the end of a run.

  Args:
    results: the results.

  Returns:
    Lines of aligned columns: scores before, worst forget scores, compute.
  """
  shown = [tables.terminal(results), tables.beside_rival(results)]
  return "\n\n".join(
    text(table.head, [(row.name, *row.cells) for row in table.rows])
    for table in shown
    if table is not None
  )


def trained(attack: Adversary) -> str:
  """Say what an attack trains, and what it does to the model before."""
  text = f"{attack.trains} are trained"
  if attack.paths:
    text = f"of {attack.trains} only {', '.join(attack.paths)} are trained"
  return f"{text}, after noise of alpha {attack.noise:g}" if attack.noise else text


def score_range(metric: Metric) -> str:
  """Describe a metric's range and direction."""
  low, high = metric.range
  direction = f"higher is {metric.higher_is}."
  if low is None:
    return direction
  return f"{f'from {low:g}' if high is None else f'{low:g} to {high:g}'}; {direction}"
