"""What a reader should know before trusting the numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import Literal, TypeAlias

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures.style import attack_labels, model_styles
from undo_jax.frontier.results import Adversary, ModelResult, Relearning, Results

# A table's columns: scores before the attack, worst ones, updates, robustness.
About: TypeAlias = Literal["before", "worst", "updates", "robustness"]
# What is said of a model, about what, of which seeds, under which attack.
Said: TypeAlias = tuple[str, About, tuple[int, ...], str | None]
_NOISY_SPAN = 0.1  # Part of the base's capability below which robustness is noisy.


@dataclasses.dataclass(frozen=True)
class Caution:
  """A warning, and which numbers it is about."""

  text: str  # A sentence that begins with the model.
  model: str | None  # By name; None: all.
  about: About
  seeds: tuple[int, ...] = ()
  attack: str | None = None  # None: of all, or of none.
  budget: int | None = None  # None: of all.


def warnings(results: Results) -> list[str]:
  """Return sentences, not escaped; none if there is nothing to warn of."""
  return [each.text for each in cautions(results)]


def cautions(results: Results) -> list[Caution]:
  """Return the warnings with the numbers that they are about."""
  texts = []
  attacks = attack_labels(results)
  more_is_worse = higher_is_worse(results.metrics["forget"])
  for name, style in model_styles(results).items():
    model = results.models[name]
    own = [*_scores(model), *_unattacked(model, rb.counted(results), attacks)]
    for attack, label in attacks.items():
      by_seed = {r.seed: r.attacks[attack] for r in model.runs if attack in r.attacks}
      under_it: list[Said] = []
      # Attacking the base model relearns nothing, so its worst rate is arbitrary.
      if name != results.references.base:
        under = f" under {label}" if len(attacks) > 1 else ""
        under_it += _edges(by_seed, under, more_is_worse, results.attacks[attack])
      under_it += _diverged(by_seed, label, results.attacks[attack])
      own += [said[:3] + (attack,) for said in under_it]
    own += _limits(model)
    texts += [
      Caution(f"{style.label}: {text}", name, about, seeds, attack)
      for text, about, seeds, attack in own
    ]
  return [*texts, *_noise(results)]


def _scores(model: ModelResult) -> Iterator[Said]:
  """Say of which seeds a model is broken before any attack."""
  broken = [r.seed for r in model.runs if None in (r.before.retain, r.before.forget)]
  if broken:
    text = f"a score before the attack is not finite ({_seeds(broken)})."
    yield text, "before", tuple(broken), None


def _unattacked(
  model: ModelResult, counted: Sequence[str], labels: Mapping[str, str]
) -> Iterator[Said]:
  """Say that the worst case of a model is over fewer attacks than that of others."""
  missing = [n for n in counted if any(n not in run.attacks for run in model.runs)]
  is_attacked = any(run.attacks for run in model.runs)
  if missing and is_attacked:
    names = ", ".join(labels[name] for name in missing)
    text = f"not attacked by {names}, which the worst case of other models is over."
    yield text, "worst", tuple(run.seed for run in model.runs), None


def _edges(
  by_seed: Mapping[int, Relearning], under: str, more_is_worse: bool, attack: Adversary
) -> Iterator[Said]:
  """Say for which seeds the attack is not known to be bracketed."""
  if not attack.goes_on:
    return
  ends = [("only", ""), ("smallest", "smaller"), ("largest", "larger")]
  does = "relearn faster"
  if attack.is_edit:  # Of ever less strength the score is that before the attack.
    does = "bring back more"
    ends.pop(1)
  edges = {
    seed: rb.edge_of_grid(relearned, higher_is_worse=more_is_worse)
    for seed, relearned in by_seed.items()
  }
  for at, beyond in ends:
    hit = {seed: edge for seed, edge in edges.items() if edge.at == at}
    rates = [f"{edge.learning_rate:g}" for edge in hit.values()]
    if hit and at == "only":
      text = f"attacked{under} with a single {attack.grid}, {rates[0]}."
      yield text, "worst", tuple(hit), None
    elif hit:
      text = (
        f"the {at} {attack.grid} of the grid, {rates[0]}, was most often the worst"
        f"{under} ({_share(hit, attack)}); a {beyond} one might {does}."
      )
      yield text, "worst", tuple(hit), None


def _share(hit: Mapping[int, rb.GridEdge], attack: Adversary) -> str:
  """Say at how many steps the worst was at the edge, and of which seeds."""
  if attack.is_edit:
    return _seeds(hit)
  steps = sum(edge.steps for edge in hit.values())
  decided = sum(edge.decided_steps for edge in hit.values())
  return f"{steps} of {decided} steps, {_seeds(hit)}"


def _diverged(
  by_seed: Mapping[int, Relearning], label: str, attack: Adversary
) -> Iterator[Said]:
  """Say for which seeds which members of an attack have lost scores."""
  lost: dict[float, list[int]] = {}
  for seed, relearned in by_seed.items():
    for rate in rb.diverged(relearned):
      lost.setdefault(rate, []).append(seed)
  for rate, seeds in lost.items():
    what = "left no finite score" if attack.is_edit else "diverged"
    text = (
      f"under {label} the {attack.grid} {rate:g} {what} ({_seeds(seeds)}); where it "
      "did it is never the worst."
    )
    yield text, "worst", tuple(seeds), None


def _limits(model: ModelResult) -> Iterator[Said]:
  """Say that training ended before its stop rule was met."""
  hit = {r.seed: r.stopped for r in model.runs if r.stopped.reason == "step limit"}
  if hit:
    updates = max(stopped.updates for stopped in hit.values())
    text = (
      f"training hit its step limit after {updates:,} updates ({_seeds(hit)}), before "
      "its stop rule was met."
    )
    yield text, "updates", tuple(hit), None


def _noise(results: Results) -> Iterator[Caution]:
  """Say after which budgets the references are too close to scale robustness."""
  known = statistics.capability(results).values()
  spans = [abs(base - floor) for base, floor in known]
  for budget in rb.budgets(results):
    ends = statistics.by_seed(results, statistics.endpoints(results), budget)
    span = min((abs(a - b) for a, b in ends), default=None)
    if spans and span is not None and span < _NOISY_SPAN * sum(spans) / len(spans):
      text = (
        f"After {budget} updates unlearning alone and data filtering differ by only "
        f"{span:.3f}; robustness at that budget magnifies noise."
      )
      yield Caution(text, None, "robustness", budget=budget)


def _seeds(seeds: Iterable[int]) -> str:
  numbers = list(seeds)
  return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
