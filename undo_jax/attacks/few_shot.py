"""Few-shot prompts: worked examples from the attacker's data before every problem."""

from undo_jax.attacks.attack import FORGET_DATA
from undo_jax.attacks.edit import Edit
from undo_jax.utils.records import FieldError

_MOST = 1000


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength is a number of examples."""
  del params, options
  if strength % 1 or not 1 <= strength <= _MOST:
    raise FieldError("strengths", f"examples, whole numbers in [1, {_MOST}]", strength)


# As the task writes them: Task.worked.
EDIT = Edit(
  is_worked=True,
  check=check,
  describe=lambda options: (
    "so many worked examples of what the attacker has stand before every problem"
  ),
  label="few-shot prompt",
  strength="examples",
  assumes=(FORGET_DATA,),
  is_random=True,
)
