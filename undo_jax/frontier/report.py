"""Write the report of results: figures and one self-contained page."""

import base64
from collections.abc import Mapping
import dataclasses
import hashlib
from importlib import resources
import os

import jinja2

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import (
  crossing,
  figures,
  held_apart,
  matched,
  matched_tables,
  resistance,
  rivals,
  run_table,
  search_table,
  suite,
  tables,
  variance_tables,
)
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.figures import render
from undo_jax.frontier.figures.style import (
  attack_labels,
  budget_title,
  model_styles,
  themes,
)
from undo_jax.frontier.headline import headline
from undo_jax.frontier.results import Adversary, Metric, ModelRun, Results
from undo_jax.frontier.statistics import reference
from undo_jax.frontier.warnings import warnings
from undo_jax.utils import files
from undo_jax.utils.tables import text

_TEMPLATE = "report.html.jinja"
# Unicode's embeddings, overrides and isolates, which end with a paragraph if nobody
# ends them. Letters that are written from right to left need none.
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def write(results: Results, directory: str | os.PathLike[str]) -> list[files.Path]:
  """Write figures/*.svg and report.html; equal results give equal bytes.

  Args:
    results: the results.
    directory: where to write; made if absent.

  Returns:
    The paths written, the page last.
  """
  directory = files.path(directory)
  runs = [run for model in results.models.values() for run in model.runs]
  is_one = all(run.workdir is None for run in runs)
  results = located(results)
  drawings = figures.draw_all(results)
  parts = {
    f"figures/{k}": v.file.translate(_TURNING).encode() for k, v in drawings.items()
  }
  searched = search_table.of_run(directory)
  parts["report.html"] = page(
    results, drawings, of_one_run=is_one, searched=searched
  ).encode()
  for name, data in parts.items():
    files.update(directory / name, data)
  return [directory / name for name in parts]


def located(results: Results) -> Results:
  """Return results whose directories are relative to their page."""

  def moved(run: ModelRun) -> ModelRun:
    parts = [*([run.workdir] if run.workdir else []), "stages", run.directory]
    return dataclasses.replace(run, workdir=None, directory="/".join(parts))

  models = {
    name: dataclasses.replace(model, runs=tuple(map(moved, model.runs)))
    for name, model in results.models.items()
  }
  return dataclasses.replace(results, models=models)


def page(
  results: Results,
  drawings: Mapping[str, figures.Drawing] | None = None,
  *,
  of_one_run: bool = True,
  searched: search_table.Searched | None = None,
) -> str:
  """Compose the page.

  Args:
    results: the results; directories as `located` has them.
    drawings: its figures by file name; None: it has tables alone.
    of_one_run: whether it lies in the workdir of a run, beside its config.
    searched: the results of a search for hyper-parameters in that workdir.

  Returns:
    HTML that can be read without scripts; every string of the results is escaped, and
    none can reverse the direction of the text after it.
  """
  drawings = drawings or {}
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("undo_jax.frontier"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.filters["kept"] = lambda text: text.replace(" ", "\u00a0")
  labels = {name: style.label for name, style in model_styles(results).items()}
  attacks = attack_labels(results)
  roles = ("base", "filtered", "unlearned")
  light, dark = themes(results)
  scripts = [_asset("report.js")]
  if drawings:
    scripts = [render.scripts(), _asset("charts.js"), *scripts]
  made = environment.get_template(_TEMPLATE).render(
    results=results,
    of_one_run=of_one_run,
    headline=headline(results),
    css=_asset("report.css"),
    themes={"light": light, "dark": dark},
    scripts=scripts,
    hashes=[_hash(script) for script in scripts],
    charts={name: render.inlined(each.chart) for name, each in drawings.items()},
    drawings=drawings,
    roles={role: labels.get(reference(results, role) or "") for role in roles},
    more_is_worse=higher_is_worse(results.metrics["forget"]),
    trained=[(label, trained(results.attacks[n])) for n, label in attacks.items()],
    counted=[attacks[name] for name in rb.counted(results)],
    grid=grid(results),
    edits=[attacks[n] for n, each in results.attacks.items() if each.is_edit],
    with_base=_with_base(results),
    readings=[attacks[n] for n, each in results.attacks.items() if each.is_reading],
    after=tables.after_budgets(results),
    main=tables.main(results),
    selected=tables.SELECTED,
    by_attack=tables.by_attack(results),
    suite=_suite(results, labels, attacks),
    suite_slack=suite.SLACK,
    certainty=tables.certainty(results),
    held_apart=held_apart.sentences(results),
    bound=matched.bound(results),
    equal_retain=matched_tables.equal_retain(results),
    by_level=matched_tables.by_level(results),
    crossings=crossing.table(results),
    score_points=matched_tables.points(results),
    after_named=_after_named(results),
    spread=variance_tables.spread(results),
    components=variance_tables.components(results),
    to_buy=variance_tables.to_buy(results),
    ablations=tables.ablations(results),
    beside_rival=tables.beside_rival(results, labels.__getitem__),
    runs=run_table.runs(results),
    searched=searched,
    slack=rivals.SLACK,
    warnings=warnings(results),
    figures=figures.chosen(results),
    missing={
      n: figures.missing(results, f) for n, f in figures.chosen(results).items()
    },
    by_task=tables.by_task,
    ranges={name: score_range(metric) for name, metric in results.metrics.items()},
  )
  return made.translate(_TURNING)


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


def _after_named(results: Results) -> str:
  """Return the budget at which families are compared."""
  budget = resistance.budget(results)
  return "" if budget is None else budget_title(budget, rb.budgets(results))


def trained(attack: Adversary) -> str:
  """Say what an attack does, to the model before it too, and what it takes."""
  text = f"{attack.trains} (strength: {attack.strength})"
  if not attack.is_edit:
    only = f"of {attack.trains} only {', '.join(attack.paths)}"
    text = f"{only if attack.paths else attack.trains} are trained"
  if attack.noise:
    text = f"{text}, after noise of alpha {attack.noise:g}"
  if not attack.assumes:
    return text
  return f"{text}; the attacker has {' and '.join(attack.assumes)}"


def grid(results: Results) -> str:
  """Say what the members of the attacks differ in."""
  names = dict.fromkeys(each.grid for each in results.attacks.values())
  return " or ".join(names) or "learning rate"


def _suite(results: Results, models: Mapping[str, str], attacks: Mapping[str, str]):
  """Return which attacks would have been enough, by labels; None: it is not known."""
  budgets = rb.budgets(results)
  found = suite.find(results, budgets[-1]) if budgets else None
  if found is None:
    return None
  return dataclasses.replace(
    found,
    guarantee=tuple(attacks[name] for name in found.guarantee),
    every=tuple(attacks[name] for name in found.every),
    best=models[found.best],
  )


def _with_base(results: Results) -> list[str]:
  """Return the attacks left out of the worst case because the attacker has the base."""
  counted, known = rb.counted(results), results.attacks
  return [
    label
    for name, label in attack_labels(results).items()
    if known[name].has_base and name not in counted
  ]


def score_range(metric: Metric) -> str:
  """Describe a metric's range and direction."""
  low, high = metric.range
  direction = f"higher is {metric.higher_is}."
  if low is None:
    return direction
  return f"{f'from {low:g}' if high is None else f'{low:g} to {high:g}'}; {direction}"


def _asset(name: str) -> str:
  """Return a file that the page holds as it is."""
  return (resources.files("undo_jax.frontier") / "templates" / name).read_text()


def _hash(script: str) -> str:
  """Return by what a browser knows a script that it may run."""
  digest = hashlib.sha256(script.encode()).digest()
  return f"sha256-{base64.b64encode(digest).decode()}"
