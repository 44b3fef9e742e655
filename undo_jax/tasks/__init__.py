"""The registry of tasks: a new one is one file and one line here."""

from undo_jax.tasks import arithmetic, facts, language, tofu, wmdp
from undo_jax.tasks.task import Task
from undo_jax.utils.registry import Registry

REGISTRY: Registry[Task] = Registry(
  "task",
  Task,
  {
    "arithmetic": arithmetic.TASK,
    "facts": facts.TASK,
    "language": language.TASK,
    "tofu": tofu.TASK,
    "wmdp": wmdp.TASK,
  },
)
get = REGISTRY.get
