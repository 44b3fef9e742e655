"""Evaluates a checkpoint on tasks of lm-evaluation-harness.

COMMAND (needs the extra `lm_eval`):

  python -m experiments.harness --checkpoint=DIR --tasks=wmdp_bio,mmlu \
      --output=results.json

The harness fetches its own tasks' data; --include_path=DIR adds tasks of yours.
"""

import json
import pathlib
from typing import Any

from absl import flags

from experiments import launch
from undo_jax.evaluation import harness
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Directory with its config.json.")
_TOKENIZER = flags.DEFINE_string(
  "tokenizer", None, "As data.tokenizer; by default the checkpoint's tokenizer.json."
)
_TASKS = flags.DEFINE_list("tasks", None, "Names of tasks or groups.")
_INCLUDE = flags.DEFINE_string("include_path", None, "Directory of further tasks.")
_SHOTS = flags.DEFINE_integer("num_fewshot", None, "Examples in a prompt.")
_LIMIT = flags.DEFINE_float("limit", None, "Questions of a task: number, or share < 1.")
_BATCH = flags.DEFINE_integer("batch_size", 8, "Rows at once.", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of compute.")
_OUTPUT = flags.DEFINE_string("output", None, "Where to write the results as JSON.")
flags.mark_flags_as_required(["checkpoint", "tasks"])


def main(argv: list[str]) -> None:
  """Prints the harness's table of results."""
  del argv
  harness.model_class()  # Says what is missing before anything is read.
  import lm_eval  # pyright: ignore
  from lm_eval.tasks import TaskManager  # pyright: ignore
  from lm_eval.utils import handle_non_serializable, make_table  # pyright: ignore

  tasks = TaskManager(include_path=_INCLUDE.value)
  names = list(_TASKS.value or ())
  unknown = [name for name in names if not tasks.match_tasks([name])]
  if unknown:
    raise ConfigError(f"--tasks: the harness knows no {', '.join(unknown)}")
  model = harness.load(
    str(_CHECKPOINT.value),
    tokenizer=_TOKENIZER.value,
    dtype=str(_DTYPE.value),
    batch_size=int(_BATCH.value or 1),
  )
  found: Any = lm_eval.simple_evaluate(
    model=model,
    tasks=names,
    task_manager=tasks,
    num_fewshot=_SHOTS.value,
    limit=_LIMIT.value,
    log_samples=False,
  )
  print(make_table(found))
  if _OUTPUT.value:
    text = json.dumps(found, indent=2, default=handle_non_serializable)
    files.write_text(pathlib.Path(str(_OUTPUT.value)), text + "\n")


if __name__ == "__main__":
  launch.run(main)
