"""What goes around a method of unlearning."""

from typing import Any

from undo_jax.config.blocks import Config
from undo_jax.config.entries import like, look


def sharpness_aware(entry: Config, *, rho: float = 0.01, **changes: object) -> Config:
  """Return an entry under sharpness-aware minimization, with run=False."""
  follower = like(entry, rho=rho, run=False, **changes)
  look(follower, "MaxEnt + SAM", "#882255", ">")
  return follower


def masked(
  entry: Config, *, label: str, share: float = 0.5, by: str = "forget", **trained: Any
) -> Config:
  """Return an entry that trains a share of its weights, with run=False.

  With by="forget" and one batch these are the weights with the largest gradients on
  forget rows, as in SalUn (Fan et al., arXiv 2310.12508); with by="attribution" they
  are those of WAGLE (Jia et al., arXiv 2410.17509, which trains a share of 0.8 for
  TOFU).

  Args:
    entry: of unlearning.
    label: how it is shown.
    share: of all weights.
    by: forget, ratio, attribution or, as a control, random.
    trained: other fields: model, mixtures, num_batches, batch_size, curvature.
  """
  mask = {"share": share, "by": by} | trained
  follower = like(entry, trained=mask, run=False)
  follower.look.label = label
  return follower


def layered(
  name: str, entry: Config, *, label: str, folds: int = 3, share: float = 0.5
) -> dict[str, Config]:
  """Return entries that forget fold after fold and keep the later folds.

  The first forgets fold 1; the second starts from it and forgets folds 1 and 2; the
  last forgets all. Only the last is attacked. All have run=False; the others, NAME_1
  and so on, are run when the last is.

  Args:
    name: of the last entry.
    entry: of unlearning, which each of them follows.
    label: how the last is shown.
    folds: k, number of folds of the forget rows.
    share: the share of the later folds among the rows that are kept.

  Reference: Qian et al., Layered Unlearning, arXiv 2505.09500.
  """
  names = [*(f"{name}_{k}" for k in range(1, folds)), name]
  entries: dict[str, Config] = {}
  for k, each in enumerate(names, 1):
    block = {"count": folds, "forgotten": k, "share": share}
    entries[each] = like(entry, folds=block, run=False)
    if k > 1:
      entries[each].start = names[k - 2]
  last = entries[name]
  last.look.label = label
  for each in names[:-1]:
    entries[each].run = last.get_oneway_ref("run")
    entries[each].is_attacked = False
  return entries


def averaged(
  entry: Config, *, label: str, begin: int, every: int = 5, **changes: object
) -> Config:
  """Return an entry that ends at the mean of its last weights, with run=False.

  Args:
    entry: of unlearning, without a stop rule.
    label: how it is shown.
    begin: updates after which the first weights are taken.
    every: updates between two that are taken.
    changes: other fields.
  """
  average = {"average_begin": begin, "average_every": every}
  follower = like(entry, optimizer=average, run=False, **changes)
  follower.look.label = label
  return follower


def smoothed(entry: Config, kind: str, *, label: str, **smoothing: object) -> Config:
  """Return an entry whose loss is smoothed, with run=False.

  Args:
    entry: of unlearning.
    kind: random, gradient_penalty or curvature.
    label: how it is shown.
    smoothing: radius, weight, samples, see undo_jax/training/smoothing.py.
  """
  follower = like(entry, smoothing={"kind": kind} | smoothing, run=False)
  follower.look.label = label
  return follower


def around(name: str, entry: Config, *, label: str) -> dict[str, Config]:
  """Return what goes around an entry of unlearning, by name; none is run unasked.

  Smoothed losses, training of some weights, folds one after the other, and the mean of
  the weights of the second half.

  Args:
    name: of the entry; those that are returned begin or end with it.
    entry: of unlearning, its number of updates as it is to be.
    label: how it is shown.
  """
  penalty = {"radius": 0.01, "weight": 0.1}  # Equal ones would make it SAM.
  entries = {
    f"{name}_penalty": smoothed(
      entry, "gradient_penalty", label=f"{label} + gradient penalty", **penalty
    ),
    f"{name}_curvature": smoothed(
      entry, "curvature", label=f"{label} + curvature", **penalty
    ),
    f"{name}_smooth": smoothed(
      entry, "random", label=f"{label} + random smoothing", radius=0.01
    ),
    f"{name}_masked": masked(entry, label=f"{label} on salient weights"),
    f"{name}_attributed": masked(
      entry,
      label=f"{label} on attributed weights",
      by="attribution",
      share=0.8,
      num_batches=8,
    ),
  }
  entries |= layered(f"layered_{name}", entry, label=f"layered {label}")
  begin = entry.optimizer.num_steps // 2
  entries[f"{name}_averaged"] = averaged(
    entry, label=f"{label} + weight averaging", begin=begin
  )
  return entries
