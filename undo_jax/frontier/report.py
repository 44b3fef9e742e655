"""Write the report of a results dict: four figures and one self-contained page."""

from collections.abc import Iterable, Mapping, Sequence
import html
import os
from typing import Any

from undo_jax.frontier import figures, rivals
from undo_jax.frontier import robustness as rb
from undo_jax.utils import files

_ABSENT = "–"
# Trained for a set number of steps: reaching it is no failure to recover.
_NOT_DISTILLED = ("base", "data_filtering", *rb.UNLEARNED_ONLY)
_NOISY_SPAN = 0.1  # Part of the base's capability below which robustness is noisy.
_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; color: #1c1c1c;
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, li, dd { max-width: 46rem; }
.scroll { overflow-x: auto; border: 1px solid #e3e3e3; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #eee; }
thead th { white-space: normal; vertical-align: bottom; min-width: 3.6rem;
  background: #f7f7f7; font-weight: 600; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff;
  font-weight: 500; max-width: 14rem; white-space: normal; min-width: 10.5rem; }
thead th:first-child { background: #f7f7f7; font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 2px;
  margin-right: .5em; }
.note { color: #555; font-size: .88rem; }
.warnings { margin: 0; padding: .7rem 1rem .7rem 2rem; background: #fff8e6;
  border: 1px solid #f0dca4; border-radius: 6px; font-size: .92rem; }
figure { margin: 0 0 2rem; }
figure img { display: block; width: 100%; max-width: 800px; height: auto; }
figcaption { color: #444; font-size: .9rem; max-width: 46rem; margin-top: .4rem; }
dt { font-weight: 600; } dd { margin: 0 0 .7rem; }
@media (max-width: 40rem) { th:first-child { min-width: 8.4rem; } }
"""
_CAPTIONS = {
  "relearning_curves.png": (
    "Relearning curves",
    (
      "The forget score at the worst learning rate of each step. Dashed: references. "
      "The axis is linear up to its first positive step and logarithmic after it."
    ),
  ),
  "robustness_compute.png": (
    "Robustness against compute",
    (
      "Robustness is 0 for unlearning alone and 1 for data filtering, the star. The "
      "line joins the UNDO models by alpha. An arrow at the border stands for a value "
      "out of the axis."
    ),
  ),
  "retain_forget.png": (
    "Retain against forget",
    (
      "Before the attack and under it; the retain score is that of the run with the "
      "worst forget score. The line joins the UNDO models by alpha."
    ),
  ),
  "learning_rates.png": (
    "The worst learning rate",
    (
      "Which learning rate of the attack was the worst at each step. Rows in the "
      "saturated end colours mean that a rate outside the grid might be worse. Grey: "
      "several rates were equally bad."
    ),
  ),
}


def write(
  results: Mapping[str, Any], directory: str | os.PathLike[str]
) -> list[files.Path]:
  """Write figures/*.png and report.html; equal results give equal bytes.

  Args:
    results: the results dict, schema 1.
    directory: where to write; made if absent.

  Returns:
    The paths written, the page last.

  Raises:
    ValueError: if the schema is not 1, or the base model, data filtering or every
      unlearned model is absent.
  """
  _check(results)
  directory = files.path(directory)
  parts = {f"figures/{k}": v for k, v in figures.draw_all(results).items()}
  parts["report.html"] = page(results).encode()
  for name, data in parts.items():
    files.write_bytes(directory / name, data)
  return [directory / name for name in parts]


def page(results: Mapping[str, Any]) -> str:
  """Compose the page.

  Args:
    results: the results dict.

  Returns:
    HTML without scripts; every string of the results is escaped.
  """
  title = f"Forgetting that lasts: {results['setting']}, {_seeds(results)}"
  found = [f"<li>{_escape(text)}</li>" for text in warnings(results)]
  sections = [
    f"<h1>{_escape(title)}</h1>",
    _introduction(results),
    "<h2>Results</h2>",
    main_table(results),
    _table_notes(results),
    *_ablations(results),
    *_rivals(results),
    "<h2>Warnings</h2>",
    f'<ul class="warnings">{"".join(found)}</ul>' if found else "<p>None.</p>",
    "<h2>Figures</h2>",
    *(_figure(name, *caption) for name, caption in _CAPTIONS.items()),
    "<h2>Scores by task, before the attack</h2>",
    task_table(results),
    f"<h2>Scores by task, after {rb.budgets(results)[-1]} relearning updates</h2>",
    task_table(results, rb.budgets(results)[-1]),
    "<h2>Definitions</h2>",
    _definitions(results),
  ]
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{_escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
    + "\n".join(sections)
    + "\n</body>\n</html>\n"
  )


def main_table(results: Mapping[str, Any]) -> str:
  """Tabulate one row a model: scores, robustness, cost.

  Args:
    results: the results dict.

  Returns:
    An HTML table.
  """
  budgets = rb.budgets(results)
  after = [figures.budget_title(budget, budgets) for budget in budgets]
  partial = [b for b in budgets if b in rb.named_budgets(results)]
  head = ["model", "retain before", "forget before"]
  head += [f"worst forget {text}" for text in after]
  head += [f"retain {after[-1]}"]
  head += [f"robustness after {budget}" for budget in partial]
  head += ["updates", "compute / data filtering", "labelled / pretraining"]
  head += ["steps to recover half of base"]
  rows = []
  for name, model in results["models"].items():
    cells = [_score(model, key) for key in ("retain", "forget", *budgets)]
    cells += [_number(figures.retain_and_forget(results, name, budgets[-1])[0])]
    for budget in partial:
      cells.append(_number(figures.robustness_after(results, name, budget), digits=2))
    cells.append(_count(model.get("compute", {}).get("updates")))
    cells.append(_number(figures.compute_fraction(results, name)))
    labels = model.get("labels", {}).get("share_of_pretraining")
    cells.append(_ABSENT if labels is None else f"{labels:.3%}")
    cells.append(_recovery(results, name))
    rows.append((name, cells))
  return _table(results, head, rows)


def text_table(results: Mapping[str, Any]) -> str:
  """Tabulate what a terminal shows at the end of a run.

  Args:
    results: the results dict.

  Returns:
    Lines of aligned columns: scores before, worst forget scores, compute.
  """
  budgets = rb.budgets(results)
  after = [figures.budget_title(budget, budgets) for budget in budgets]
  head = ("model", "retain", "forget", *(f"forget {a}" for a in after), "compute")
  rows: list[Sequence[str]] = [head]
  for name, model in results["models"].items():
    scores = [_score(model, key) for key in ("retain", "forget", *budgets)]
    rows.append((name, *scores, _number(figures.compute_fraction(results, name))))
  lines = _aligned(rows)
  rivals_found = rival_rows(results)
  if rivals_found:
    lines += ["", *_aligned([rival_head(results), *rivals_found])]
  return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Pads the columns of rows to equal widths, the first to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for name, *cells in rows:
    aligned = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
    lines.append("  ".join([name.ljust(widths[0]), *aligned]))
  return lines


def task_table(results: Mapping[str, Any], budget: int | None = None) -> str:
  """Tabulate scores by task, before the attack or under it.

  Args:
    results: the results dict.
    budget: relearning updates, at the rate whose forget score was the worst; None:
      before the attack.

  Returns:
    An HTML table, or a sentence if no model has scores by task.
  """
  by_task = {n: _by_task(m, budget) for n, m in results["models"].items()}
  tasks = list(dict.fromkeys(task for scores in by_task.values() for task in scores))
  if not tasks:
    return "<p>No scores by task were recorded.</p>"
  rows = [(n, [_number(s.get(task)) for task in tasks]) for n, s in by_task.items()]
  return _table(results, ["model", *(task.replace("_", " ") for task in tasks)], rows)


def _by_task(model: Mapping[str, Any], budget: int | None) -> Mapping[str, float]:
  """Return one model's scores by task."""
  if budget is None:
    return model["before"].get("by_task", {})
  relearn = model["relearn"]
  index = rb.step_index(relearn["steps"], budget)
  return {task: s[index] for task, s in relearn.get("by_task", {}).items()}


def warnings(results: Mapping[str, Any]) -> list[str]:
  """List what a reader should know before trusting the numbers.

  Args:
    results: the results dict.

  Returns:
    Sentences, not escaped; empty if there is nothing to warn of.
  """
  found = []
  for name, style in figures.model_styles(results["models"]).items():
    model = results["models"][name]
    # Attacking the base model relearns nothing, so its worst rate is arbitrary.
    if name != "base":
      found += _edge_warning(style.label, rb.edge_of_grid(model["relearn"]))
    stopped = model.get("stopped", {})
    if name not in _NOT_DISTILLED and stopped.get("reason") == "step limit":
      found.append(
        f"{style.label}: distillation hit its step limit after "
        f"{_count(stopped.get('updates'))} updates, before the model had recovered."
      )
  return found + _noise_warnings(results)


def _ablations(results: Mapping[str, Any]) -> list[str]:
  """Tabulate routed models before and after their reserved units were ablated."""
  head = ["model", "MLP units", "key/value heads", "retain before ablation"]
  head += ["retain after", "forget before ablation", "forget after"]
  rows = []
  for name, model in results["models"].items():
    if "ablation" not in model:
      continue
    ablation, after = model["ablation"], model["before"]
    cells = [_count(ablation[units]) for units in ("mlp_units", "kv_heads")]
    for score in ("retain", "forget"):
      cells += [_number(ablation["before"][score]), _number(after[score])]
    rows.append((name, cells))
  if not rows:
    return []
  note = (
    "Routed models learn what is to be forgotten in reserved units, of which so many "
    "are then set to zero in each layer. All other numbers of this page are those "
    "after ablation; the compute of routing counts the pass of the ablated model."
  )
  table = _table(results, head, rows)
  return ["<h2>Ablation</h2>", table, f'<p class="note">{note}</p>']


def _rivals(results: Mapping[str, Any]) -> list[str]:
  """Tabulate routed models beside the best UNDO model that costs no more."""
  rows = [(name, cells) for name, *cells in rival_rows(results)]
  if not rows:
    return []
  note = (
    "Beside each model stands the UNDO model that resists best, at that budget, among "
    f"those that cost at most {1 + rivals.SLACK:g} times as much. A low worst score "
    "says little where retain is low too."
  )
  table = _table(results, rival_head(results), rows)
  heading = "<h2>Beside UNDO at equal compute</h2>"
  return [heading, table, f'<p class="note">{note}</p>']


def rival_head(results: Mapping[str, Any]) -> list[str]:
  """Names the columns of `rival_rows`."""
  head = ["model", "retain", "compute"]
  for budget in rb.budgets(results):
    head += [f"worst forget after {budget}", "UNDO within its compute"]
    head += ["its retain", "its worst forget", "seeds more robust than it"]
  return head


def rival_rows(results: Mapping[str, Any]) -> list[list[str]]:
  """Compare each routed model with UNDO at equal compute; see rivals.rival."""
  models = results["models"]
  rows = []
  for name in rivals.routed(results):
    row = [name, _score(models[name], "retain")]
    row.append(_number(figures.compute_fraction(results, name)))
    for budget in rb.budgets(results):
      row.append(_score(models[name], budget))
      other = rivals.rival(results, name, budget)
      if other is None:
        row += [_ABSENT] * 4
        continue
      margins = rivals.margins(results, name, other, budget)
      row += [other, _score(models[other], "retain"), _score(models[other], budget)]
      row.append(f"{sum(margin > 0 for margin in margins)} of {len(margins)}")
    rows.append(row)
  return rows


def _check(results: Mapping[str, Any]) -> None:
  """Raise ValueError if the report cannot be written from the results."""
  if results.get("schema") != 1:
    raise ValueError(f"expected results of schema 1, got {results.get('schema')!r}")
  for name in ("base", "data_filtering"):
    if name not in results["models"]:
      raise ValueError(f"the report needs the model {name!r}")


def _edge_warning(label: str, edge: rb.GridEdge) -> list[str]:
  """Say that the attack is not known to be bracketed, or nothing."""
  if edge.at == "only":
    return [f"{label}: attacked with a single learning rate, {edge.learning_rate:g}."]
  if edge.at not in ("smallest", "largest"):
    return []
  beyond = {"smallest": "smaller", "largest": "larger"}[edge.at]
  return [
    (
      f"{label}: the {edge.at} learning rate of the grid, {edge.learning_rate:g}, was "
      f"most often the worst ({edge.steps} of {edge.decided_steps} steps); a {beyond} "
      "one might relearn faster."
    )
  ]


def _noise_warnings(results: Mapping[str, Any]) -> list[str]:
  """Say after which budgets the references are too close to scale robustness."""
  models = results["models"]
  reference = rb.unlearned_reference(models)
  capability = abs(models["base"]["before"]["forget"] - _floor(results))
  found = []
  for budget in rb.budgets(results):
    unlearned = rb.score_at(models[reference]["relearn"], budget)
    span = abs(unlearned - rb.score_at(models["data_filtering"]["relearn"], budget))
    if span < _NOISY_SPAN * capability:
      found.append(
        f"After {budget} updates unlearning alone and data filtering differ by only "
        f"{span:.3f}; robustness at that budget magnifies noise."
      )
  return found


def _floor(results: Mapping[str, Any]) -> float:
  """Return the forget score of no capability: 0, or data filtering's if lower is worse.

  Zero nats would be perfect capability, so a cross-entropy needs a model's score.
  """
  if rb.higher_is_worse(results["metrics"]["forget"]):
    return 0.0
  return results["models"]["data_filtering"]["before"]["forget"]


def _recovery(results: Mapping[str, Any], name: str) -> str:
  """Format the slowdown of one model."""
  relearn = results["models"][name]["relearn"]
  base = results["models"]["base"]["before"]["forget"]
  try:
    step = rb.slowdown(relearn, base_score=base, floor=_floor(results))
  except ValueError:
    return _ABSENT
  return f"not by {_count(relearn['steps'][-1])}" if step is None else _count(step)


def _introduction(results: Mapping[str, Any]) -> str:
  """Explain in one paragraph how to read the page."""
  metric = results["metrics"]["forget"]
  way = "higher" if rb.higher_is_worse(metric) else "lower"
  return (
    "<p>Each model below should have lost one capability (forget) and kept another "
    "(retain). Low capability before the attack proves little: the test is how fast "
    "finetuning on forget data brings it back. Each model is attacked with several "
    "learning rates, and at each step only the most successful one counts; "
    f"{_trained_by_attack(results)}. The forget score is "
    f"{_escape(metric['name'])} ({_escape(metric['unit'])}); {way} means "
    "more capable, so a robust model stays "
    f"{'low' if way == 'higher' else 'high'}. Data filtering, trained from scratch "
    "without the forget data, is what a perfect method would match.</p>"
  )


def _trained_by_attack(results: Mapping[str, Any]) -> str:
  """Say what the attacks of a run train, and what they do to the model before."""
  model = next(iter(results["models"].values()))
  attack = model["relearn"].get("attack", {"kind": "full"})
  text = "all weights are trained"
  if attack["kind"] == "lora":
    text = f"low-rank adapters (LoRA, rank {_escape(attack['rank'])}) are trained"
  elif "trainable" in attack:
    paths = ", ".join(_escape(pattern) for pattern, _ in attack["trainable"])
    text = f"a part of the weights is trained ({paths})"
  if "perturb" in attack:
    text += f", after noise of alpha {_escape(attack['perturb']['alpha'])}"
  return text


def _table_notes(results: Mapping[str, Any]) -> str:
  """Explain the derived columns below the main table."""
  styles = figures.model_styles(results["models"])
  reference = styles[rb.unlearned_reference(results["models"])].label
  return (
    '<p class="note">Robustness: 0 is unlearning alone (here '
    f"{_escape(reference)}), 1 is data filtering; {_ABSENT} where the two coincide or "
    "a value was not recorded. Retain under attack is that of the run with the worst "
    f"forget score.{_seeds_note(results)}</p>"
  )


def _seeds_note(results: Mapping[str, Any]) -> str:
  """Explain what stands in brackets, where there are several seeds."""
  if "seeds" not in results:
    return ""
  return (
    " Numbers are means over the seeds, in brackets the least and the greatest; each "
    "seed has its own worst learning rate. Bands behind curves are that range too."
  )


def _definitions(results: Mapping[str, Any]) -> str:
  """Define the metrics, the derived numbers and what compute counts."""
  entries = [
    (f"{kind.capitalize()} score", f"{m['name']}; {m['unit']}; {_range(m)}")
    for kind, m in results["metrics"].items()
  ]
  half = "half of the base model's forget score before the attack"
  if not rb.higher_is_worse(results["metrics"]["forget"]):
    half = "halfway from data filtering's to the base model's score before the attack"
  entries += [
    ("Worst", "the most capable score over the attack's learning rates at that step."),
    ("Robustness", "(unlearned − model) / (unlearned − data filtering), worst scores."),
    ("Steps to recover half of base", f"first evaluated step at or beyond {half}."),
    (
      "Compute",
      (
        "Training forward and backward passes, the teacher's passes, unlearning, and "
        "everything made from the base model on the way. The base model itself is "
        "given, and evaluation is not counted."
      ),
    ),
    (
      "Labelled",
      (
        "Tokens that had to be known as forget or retain, each as often as it was "
        "read, as a share of the tokens the base was pretrained on."
      ),
    ),
  ]
  items = (f"<dt>{_escape(t)}</dt><dd>{_escape(d)}</dd>" for t, d in entries)
  return f"<dl>{''.join(items)}</dl>"


def _range(metric: Mapping[str, Any]) -> str:
  """Describe a metric's range and direction."""
  low, high = metric.get("range") or (None, None)
  direction = f"higher is {metric['higher_is']}."
  if low is None:
    return direction
  return f"{f'from {low}' if high is None else f'{low} to {high}'}; {direction}"


def _table(
  results: Mapping[str, Any],
  head: Sequence[str],
  rows: Iterable[tuple[str, Sequence[str]]],
) -> str:
  """Render rows in the order of display, each with its model's colour."""
  cells_by_name = dict(rows)
  body = []
  for name, style in figures.model_styles(results["models"]).items():
    if name not in cells_by_name:
      continue
    swatch = f'<span class="swatch" style="background:{style.color}"></span>'
    cells = "".join(f"<td>{_escape(cell)}</td>" for cell in cells_by_name[name])
    body.append(f'<tr><th scope="row">{swatch}{_escape(style.label)}</th>{cells}</tr>')
  columns = "".join(f'<th scope="col">{_escape(text)}</th>' for text in head)
  return (
    f'<div class="scroll" tabindex="0"><table><thead><tr>{columns}</tr></thead>'
    f"<tbody>{''.join(body)}</tbody></table></div>"
  )


def _figure(name: str, title: str, caption: str) -> str:
  """Render one figure and its caption."""
  return (
    f'<figure><img src="figures/{name}" alt="{_escape(title)}" width="800">'
    f"<figcaption><strong>{_escape(title)}.</strong> {_escape(caption)}</figcaption>"
    "</figure>"
  )


def _number(value: float | None, *, digits: int = 3) -> str:
  """Format a score; a minus sign never stands before a zero."""
  if value is None:
    return _ABSENT
  return f"{value:z.{digits}f}".replace("-", "−")


def _score(model: Mapping[str, Any], which: str | int) -> str:
  """Format "retain" or "forget" before the attack, or the worst forget after updates.

  Of several seeds the mean, with the least and the greatest.
  """
  relearn = model["relearn"]
  before = isinstance(which, str)
  mean = model["before"][which] if before else rb.score_at(relearn, which)
  by_seed = model.get("by_seed")
  if by_seed is None:
    return _number(mean)
  scores = by_seed["retain" if which == "retain" else "forget"]
  if not before:
    step = rb.step_index(relearn["steps"], which)
    scores = [worst_S[step] for worst_S in by_seed["worst_forget"]]
  return f"{_number(mean)} ({_number(min(scores))} to {_number(max(scores))})"


def _seeds(results: Mapping[str, Any]) -> str:
  """Name the seed, or the seeds that the results are the mean of."""
  if "seeds" not in results:
    return f"seed {results['seed']}"
  return f"mean of seeds {', '.join(map(str, results['seeds']))}"


def _count(value: float | None) -> str:
  """Format a count with thousands separated; a mean is rounded."""
  return _ABSENT if value is None else f"{value:,.0f}"


def _escape(text: object) -> str:
  """Escape any value for HTML, quotes included."""
  return html.escape(str(text), quote=True)
