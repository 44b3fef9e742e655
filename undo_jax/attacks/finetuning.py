"""Full finetuning: relearning that trains the weights themselves."""

from undo_jax.attacks.attack import Attack, Members
from undo_jax.models.decoder import partition_rules
from undo_jax.utils.records import FieldError


def members(model, options, objective) -> Members:
  """Return members that are copies of the attacked model."""
  del options
  rules = partition_rules(model)
  return Members(
    start=lambda params, key: params,
    objective=objective,
    weights=lambda params, frozen: params,
    rules=lambda params: rules,
  )


def check(model, options) -> None:
  """Raise FieldError if there are options: there is nothing to choose."""
  del model
  if options:
    raise FieldError("options", "none", dict(options))


ATTACK = Attack(
  members=members,
  check=check,
  describe=lambda options: "all weights",
  label="full finetuning",
)
