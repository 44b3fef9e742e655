"""The tables of the page and of the terminal, as text by row and column."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import math
from statistics import median_low
from typing import TypeAlias

from undo_jax.frontier import rivals, warnings
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics as st
from undo_jax.frontier.figures.style import attack_labels, budget_title, model_styles
from undo_jax.frontier.formats import ABSENT, NOT_ATTACKED, count, number
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Kind, Mean, reference
from undo_jax.frontier.warnings import About, Caution

_PARTS = (0.5, 0.9, 0.95)  # Of the base's capability, to win back.
SELECTED = "labelled rows: precision, recall"  # Of what they select.
KINDS: tuple[Kind, ...] = ("retain", "forget")
Cell: TypeAlias = Callable[[str], Mean | str | None]  # Of a model, by its name.


@dataclasses.dataclass(frozen=True)
class Column:
  """What stands at the head of a column, and a model's cell in it."""

  head: str
  cell: Cell
  attacks: Sequence[str] | None = None  # Whose work it is of; None: not of an attack.
  about: About | None = None  # Which warnings stand beside its cells.
  budget: int | None = None


@dataclasses.dataclass(frozen=True)
class Row:
  """One model."""

  name: str
  label: str
  color: str  # A variable of the page.
  cells: tuple[str, ...]
  method: str = ""  # What a legend calls it, or its family.
  link: str | None = None  # Where the last cell leads.
  marks: tuple[str, ...] = ()  # The warning beside each cell, "" where there is none.


@dataclasses.dataclass(frozen=True)
class Table:
  """One row a model."""

  head: tuple[str, ...]  # Over the label and over each cell.
  rows: tuple[Row, ...]
  marks: tuple[str, ...] = ()  # Beside each head, likewise.


def main(results: Results) -> Table:
  """Return scores, robustness and cost; columns that need an absent role are out."""
  after = after_budgets(results)
  columns = [_before(results, kind, f"{kind} before") for kind in KINDS]
  columns += [_worst(results, b, f"worst forget {title}") for b, title in after]
  attacks = rb.counted(results)
  columns += [
    Column(f"retain {title}", lambda n, b=b: st.retain_under(results, n, b), attacks)
    for b, title in after[-1:]
  ]
  if None not in st.endpoints(results):
    columns += [
      Column(
        f"robustness after {b}",
        lambda n, b=b: _robustness(results, n, b),
        attacks,
        about="robustness",
        budget=b,
      )
      for b, _ in after
      if b in results.report.budgets
    ]
  columns.append(Column("updates", lambda n: _updates(results, n), about="updates"))
  if reference(results, "filtered"):
    columns.append(_compute(results, "compute / data filtering"))
  if reference(results, "base"):
    columns.append(Column("labelled / pretraining", lambda n: _labelled(results, n)))
  if any(st.selected(results, name) for name in results.models):
    columns.append(Column(SELECTED, lambda n: _selected(results, n)))
  if after and st.capability(results):
    head = "steps to recover half of base"
    columns.append(Column(head, lambda n: _recovery(results, n), attacks))
  return of_models(results, columns)


def by_attack(results: Results) -> Table | None:
  """Return the worst forget score under each attack; None if there is but one.

  Of an edit once, since it is within every budget.
  """
  labels, after = attack_labels(results), after_budgets(results)
  edits = [name for name in labels if results.attacks[name].is_edit]
  columns = [
    _worst(results, budget, f"{label} {title}", (name,))
    for budget, title in after
    for name, label in labels.items()
    if name not in edits
  ]
  columns += [
    _worst(results, budget, labels[name], (name,))
    for budget, _ in after[-1:]
    for name in edits
  ]
  return of_models(results, columns) if len(labels) > 1 else None


def certainty(results: Results) -> Table | None:
  """Return held-out scores, and how long attackers need; None without an attack.

  Columns that nothing is known for are left out.
  """
  after = after_budgets(results)
  if not after:
    return None
  budget, title = after[-1]
  under: dict[str, Cell] = {
    "likewise, held-out attack": lambda n: st.cross_fitted(results, n, budget),
    "its binomial error": lambda n: _binomial(results, n, budget),
    "on what the attacker learns": lambda n: st.task_score(
      results, n, "forget_attacked", budget
    ),
    **{
      f"updates to {part:.0%} of base": lambda n, p=part: _time(results, n, p)
      for part in _PARTS
    },
    "attacker's tokens to 50%": lambda n: _spent(results, n)[0],
    "attacker's FLOPs to 50%": lambda n: _spent(results, n)[1],
  }
  columns = [_worst(results, budget, f"worst forget {title}")]
  columns += [Column(head, cell, rb.counted(results)) for head, cell in under.items()]
  if reference(results, "filtered"):
    head = "compute / data filtering of equal retain"
    columns.append(Column(head, lambda n: st.compute_at_equal_retain(results, n)))
  known = [
    column
    for column in columns
    if any(column.cell(name) not in (None, ABSENT) for name in results.models)
  ]
  return of_models(results, known)


def ablations(results: Results) -> Table | None:
  """Return models before and after their reserved units were ablated."""
  ablated = {
    name: [run.ablation for run in model.runs if run.ablation is not None]
    for name, model in results.models.items()
  }
  columns = [
    Column("MLP units", lambda n: count(ablated[n][0].mlp_units)),
    Column("key/value heads", lambda n: count(ablated[n][0].kv_heads)),
  ]
  for kind in KINDS:
    columns += [
      Column(
        f"{kind} before ablation",
        lambda n, k=kind: st.mean(getattr(each.before, k) for each in ablated[n]),
      ),
      _before(results, kind, f"{kind} after"),
    ]
  names = [name for name in ablated if ablated[name]]
  return of_models(results, columns, names) if names else None


def by_task(results: Results, budget: int | None = None) -> Table | None:
  """Return scores by task, before the attack or under it; None if there are none.

  Args:
    results: the results.
    budget: relearning updates, at the rate whose forget score was the worst; None:
      before the attack.
  """
  runs = [run for model in results.models.values() for run in model.runs]
  scores = [run.before.by_task for run in runs]
  if budget is not None:
    scores = [under.by_task for run in runs for under in run.attacks.values()]
  attacks = None if budget is None else rb.counted(results)
  columns = [
    Column(
      task.replace("_", " "),
      lambda n, t=task: st.task_score(results, n, t, budget),
      attacks,
    )
    for task in dict.fromkeys(task for of_run in scores for task in of_run)
  ]
  return of_models(results, columns) if columns else None


def beside_rival(results: Results, shown: Callable[[str], str] = str) -> Table | None:
  """Return models beside the rival's best member that costs no more.

  Args:
    results: the results.
    shown: how a member of the rival family is called.

  Returns:
    None if there is no rival, or nothing to hold against it.
  """
  names = rivals.challengers(results)
  retain = _before(results, "retain", "retain")
  columns = [retain, _compute(results, "compute")]
  if not reference(results, "filtered"):
    columns[-1] = Column("FLOPs", lambda n: f"{rivals.flops(results, n):.3g}")
  for budget, _ in after_budgets(results):
    other = {name: rivals.rival(results, name, budget) for name in names}
    worst = _worst(results, budget, f"worst forget after {budget}")
    columns += [
      worst,
      _of_rival(f"{results.report.rival} within its compute", other, shown),
      _of_rival("its retain", other, retain.cell),
      _of_rival("its worst forget", other, worst.cell),
      Column(
        "seeds more robust than it",
        lambda n, b=budget, other=other: _won(results, n, other[n], b),
      ),
    ]
  return of_models(results, columns, names) if names else None


def terminal(results: Results) -> Table:
  """Return what a terminal shows at the end of a run."""
  columns = [_before(results, kind, kind) for kind in KINDS]
  columns += [_worst(results, b, f"forget {t}") for b, t in after_budgets(results)]
  if reference(results, "filtered"):
    columns.append(_compute(results, "compute"))
  return of_models(results, columns)


def after_budgets(results: Results) -> list[tuple[int, str]]:
  """Return each budget and what it is called."""
  budgets = rb.budgets(results)
  return [(budget, budget_title(budget, budgets)) for budget in budgets]


def of_models(
  results: Results, columns: Sequence[Column], names: Iterable[str] | None = None
) -> Table:
  """Return the rows of models, all unless they are named."""
  styles = model_styles(results)
  cautions = warnings.cautions(results)
  rows = (
    Row(
      n,
      styles[n].label,
      styles[n].color,
      tuple(_text(results, n, column) for column in columns),
      styles[n].method,
      marks=tuple(_mark(cautions, column, n) for column in columns),
    )
    for n in (results.models if names is None else names)
  )
  return Table(
    ("model", *(column.head for column in columns)),
    tuple(rows),
    ("", *(_mark(cautions, column, None) for column in columns)),
  )


def _text(results: Results, name: str, column: Column) -> str:
  """Return a cell; of a model that none of the column's attacks was on, that."""
  runs = results.models[name].runs
  if column.attacks is not None and not any(
    attack in run.attacks for run in runs for attack in column.attacks
  ):
    return NOT_ATTACKED
  cell = column.cell(name)
  return cell if isinstance(cell, str) else number(cell)


def _mark(cautions: Sequence[Caution], column: Column, name: str | None) -> str:
  """Return the warnings of a cell, or of a column's head (None)."""
  return " ".join(
    each.text
    for each in cautions
    if each.model == name
    and each.about == column.about
    and each.budget in (None, column.budget)
    and (each.attack is None or each.attack in (column.attacks or ()))
  )


def _before(results: Results, kind: Kind, head: str) -> Column:
  return Column(head, lambda name: st.before(results, name, kind), about="before")


def _worst(
  results: Results, budget: int, head: str, attacks: Sequence[str] | None = None
) -> Column:
  return Column(
    head,
    lambda name: st.worst_forget(results, name, budget, attacks),
    rb.counted(results) if attacks is None else attacks,
    about="worst",
  )


def _compute(results: Results, head: str) -> Column:
  """Return what models cost; what is the same for all seeds has no interval."""

  def cell(name: str) -> Mean | None:
    mean = st.compute(results, name)
    if mean is not None and len(set(mean.by_seed)) == 1:
      return dataclasses.replace(mean, half_width=None)
    return mean

  return Column(head, cell)


def _robustness(results: Results, name: str, budget: int) -> str:
  return number(st.robustness_after(results, name, budget), digits=2)


def _updates(results: Results, name: str) -> str:
  runs = results.models[name].runs
  return count(math.fsum(run.compute.updates for run in runs) / len(runs))


def _labelled(results: Results, name: str) -> str:
  share = st.labelled(results, name)
  return ABSENT if share is None else f"{share.value:.3%}"


def _selected(results: Results, name: str) -> str:
  """Format by how many labelled rows a classifier selected others, and how well."""
  selection = st.selected(results, name)
  if selection is None:
    return ABSENT
  rows, precision, recall = selection
  return f"{count(rows)}: {precision:.3f}, {recall:.3f}"


def _recovery(results: Results, name: str) -> str:
  """Format the slowdown of one model, of several seeds the median."""
  steps = st.recovery(results, name)
  if not steps:
    return ABSENT
  median = median_low(math.inf if step is None else step for step in steps)
  evaluated, _ = st.curve(results, name, rb.counted(results))
  return count(median) if math.isfinite(median) else f"not by {count(evaluated[-1])}"


def _time(results: Results, name: str, part: float) -> str:
  """Format the median time to recovery, and of how many seeds it is censored."""
  time = st.recovery_time(results, name, part)
  if time is None:
    return ABSENT
  shown = f"> {count(time.last)}" if time.median is None else count(time.median)
  if time.recovered == time.seeds or time.seeds == 1:
    return shown
  return f"{shown} ({time.recovered} of {time.seeds} seeds)"


def _spent(results: Results, name: str) -> tuple[str, str]:
  """Format the tokens and FLOPs until half of the capability is back."""
  time = st.recovery_time(results, name, 0.5)
  if time is None or time.tokens is None or time.flops is None:
    return ABSENT, ABSENT
  return count(time.tokens), f"{time.flops:.2g}"


def _binomial(results: Results, name: str, budget: int) -> str:
  """Format the half-width that the number of scored items leaves to an accuracy."""
  worst, items = st.worst_forget(results, name, budget), results.items.get("forget")
  if worst is None or not items or not 0 <= worst.value <= 1:  # No share of them.
    return ABSENT
  return f"{st.binomial_half_width(worst.value, items):.3f}"


def _of_rival(
  head: str,
  other: dict[str, str | None],
  cell: Cell,
) -> Column:
  """Return a column about the rivals of models."""
  return Column(head, lambda n: None if (rival := other[n]) is None else cell(rival))


def _won(results: Results, name: str, other: str | None, budget: int) -> str:
  margins = rivals.margins(results, name, other, budget) if other else []
  more = sum(margin > 0 for margin in margins)
  return f"{more} of {len(margins)}" if margins else ABSENT
