r"""Evaluate a checkpoint on tasks of lm-evaluation-harness.

COMMAND (needs the extra `lm-eval`):

  undo-jax harness --checkpoint=DIR --tasks=wmdp_bio,mmlu \
      --output=results.json

The harness downloads the data of its own tasks; --include_path=DIR adds your tasks.
"""

import pathlib

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.evaluation import harness
from undo_jax.utils import files


def define() -> Main:
  """Define the flags; the main prints the harness's table of results."""
  checkpoint = flags.DEFINE_string(
    "checkpoint", None, "Directory with its config.json.", required=True
  )
  tokenizer = flags.DEFINE_string(
    "tokenizer", None, "As data.tokenizer; by default the checkpoint's tokenizer.json."
  )
  tasks = flags.DEFINE_list("tasks", None, "Names of tasks or groups.", required=True)
  include = flags.DEFINE_string("include_path", None, "Directory with more tasks.")
  shots = flags.DEFINE_integer("num_fewshot", None, "Examples in a prompt.")
  limit = flags.DEFINE_float(
    "limit", None, "Questions of a task: number, or share < 1."
  )
  chatting = flags.DEFINE_bool(
    "apply_chat_template", False, "Write questions by the checkpoint's chat template."
  )
  rows = flags.DEFINE_integer("batch_size", 8, "Rows per pass.", lower_bound=1)
  dtype = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Compute type."
  )
  output = flags.DEFINE_string("output", None, "Where to write the results as JSON.")

  def main(argv: list[str]) -> None:
    del argv
    table, results = harness.evaluate(
      lambda: harness.load(
        str(checkpoint.value),
        tokenizer=tokenizer.value,
        dtype=str(dtype.value),
        batch_size=int(rows.value or 1),
      ),
      list(tasks.value or ()),
      include=include.value,
      num_fewshot=shots.value,
      apply_chat_template=chatting.value,
      limit=limit.value,
    )
    print(table)
    if output.value:
      files.write_text(pathlib.Path(output.value), results + "\n")

  return main
