r"""Continue prompts with several models, and show their texts side by side.

COMMAND:

  undo-jax generate --checkpoint=checkpoints/smollm2,WORKDIR/stages/max_ent \
      --prompt='The capital of France is' --prompt='def main():' --num_tokens=40

A checkpoint is a trained stage, an attack's with --learning_rate for the member that is
wanted, or Hugging Face's. With --apply_chat_template a prompt is a user's message.
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from absl import flags

from undo_jax.checkpoints import cards, models
from undo_jax.cli.process import Main
from undo_jax.data import tokenizers
from undo_jax.evaluation import continuations
from undo_jax.utils import files


@dataclasses.dataclass(frozen=True)
class Continuation:
  """What one model appends to one prompt."""

  checkpoint: str
  prompt: str  # As given, without a chat template.
  text: str


def define() -> Main:
  """Define the flags; the main prints each prompt with what each model appends."""
  checkpoints = flags.DEFINE_list(
    "checkpoint", None, "What to ask, one or more; see above.", required=True
  )
  prompts = flags.DEFINE_multi_string(
    "prompt", None, "What is continued; may be given several times.", required=True
  )
  num_tokens = flags.DEFINE_integer(
    "num_tokens", 64, "Appended to a prompt at most.", lower_bound=1
  )
  temperature = flags.DEFINE_float(
    "temperature", 0.0, "0: the most likely token each time.", lower_bound=0.0
  )
  seed = flags.DEFINE_integer("seed", 0, "Of the draws.")
  rate = flags.DEFINE_float("learning_rate", None, "Of the attack's member.")
  tokenizer = flags.DEFINE_string(
    "tokenizer", None, "As config.data.tokenizer; default: the run's."
  )
  chatting = flags.DEFINE_bool(
    "apply_chat_template", False, "Ask as the tokenizer's chat template writes it."
  )
  output = flags.DEFINE_string("output", None, "Where to write the texts as JSON.")

  def main(argv: list[str]) -> None:
    del argv
    texts: list[Continuation] = []
    for checkpoint in checkpoints.value or ():
      texts += generate(
        checkpoint,
        list(prompts.value or ()),
        num_tokens=int(num_tokens.value or 1),
        temperature=float(temperature.value or 0.0),
        seed=int(seed.value or 0),
        learning_rate=rate.value,
        tokenizer=tokenizer.value,
        is_chat=bool(chatting.value),
      )
    print(table(texts))
    if output.value:
      records = [dataclasses.asdict(each) for each in texts]
      text = json.dumps(records, indent=2, ensure_ascii=False)
      files.write_text(pathlib.Path(output.value), text + "\n")

  return main


def generate(
  checkpoint: str,
  prompts: Sequence[str],
  *,
  learning_rate: float | None = None,
  tokenizer: str | None = None,
  is_chat: bool = False,
  **options: Any,
) -> list[Continuation]:
  """Continue each prompt by one model.

  Args:
    checkpoint: directory of a trained stage or of an attack, or Hugging Face's.
    prompts: see continuations.texts.
    learning_rate: which member of an attack; otherwise unused.
    tokenizer: a name for data/tokenizers; None: that of the run or directory.
    is_chat: whether prompts are written by the tokenizer's chat template.
    **options: of continuations.texts.

  Raises:
    ConfigError: if the checkpoint, its tokenizer or its chat template cannot be read.
  """
  is_attack = cards.is_attack(models.find(checkpoint))
  model = models.read(checkpoint, learning_rate=learning_rate if is_attack else None)
  name = model.tokenizer_or(tokenizer)
  texts = continuations.texts(
    model.config,
    model.params,
    tokenizers.make(name),
    prompts,
    stops=model.stops,
    template=continuations.template_of(name) if is_chat else None,
    **options,
  )
  return [
    Continuation(checkpoint, prompt, text)
    for prompt, text in zip(prompts, texts, strict=True)
  ]


def table(texts: Sequence[Continuation]) -> str:
  """Return the texts by prompt, a line for each model."""
  lines = []
  for prompt in dict.fromkeys(each.prompt for each in texts):
    lines += [repr(prompt)]
    own = [each for each in texts if each.prompt == prompt]
    width = max(len(each.checkpoint) for each in own)
    lines += [f"  {each.checkpoint:<{width}}  {each.text!r}" for each in own]
  return "\n".join(lines)
