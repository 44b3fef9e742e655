"""Made-up files of TOFU's format, and the data of a config that reads them."""

import json

from undo_jax import config as builders

WORDS = ("red", "tall", "old", "calm", "loud", "wet")


def record(author: str, number: int, *, perturbed: bool = True):
  """Return a line about an author; answers differ in length."""
  word = WORDS[number % len(WORDS)]
  row = {"question": f"{author} {number}?", "answer": f"It is {word * (number % 3)}."}
  if perturbed:
    row["paraphrased_answer"] = f"{word * (number % 3)} it is."
    row["perturbed_answer"] = [f"{other} it is." for other in WORDS[: 2 + number % 2]]
    row["paraphrased_question"] = f"And {author} {number}?"
  return row


def write(directory, *, forget=3, retain=4, others=2):
  """Write the six files; of retain_perturbed the first `others` authors."""
  directory.mkdir(parents=True, exist_ok=True)

  def authors(kind, count, **how):
    return [record(f"{kind}{a}", n, **how) for a in range(count) for n in range(20)]

  real = [record("real", n) for n in range(5)]
  for row in real:
    del row["paraphrased_answer"], row["paraphrased_question"]
  rows = {
    "forget": authors("F", forget, perturbed=False),
    "forget_perturbed": authors("F", forget),
    "retain": authors("R", retain, perturbed=False),
    "retain_perturbed": authors("R", others),
    "real_authors": real,
    "world_facts": real[:3],
  }
  for name, lines in rows.items():
    text = "\n".join(json.dumps(line) for line in lines)
    (directory / f"{name}.json").write_text(text)


def data(directory, **changes):
  """Return a config's block of data; changes by field."""
  names = ("forget", "forget_perturbed", "retain", "retain_perturbed")
  files = {name: f"{name}.json" for name in (*names, "real_authors", "world_facts")}
  sets = ("forget", "retain", "forget_attacked", "real_authors", "world_facts")
  made = builders.block(
    directory=str(directory),
    files=builders.block(**files),
    num_forget_authors=builders.maybe(int),
    num_retain_authors=builders.maybe(int),
    attacked_share=0.4,
    num_evaluation=builders.optional(int, **dict.fromkeys(sets)),
    num_perturbed=builders.maybe(int),
    template="Q: {question}\nA: {answer}",
    tokenizer="bytes",
    sequence_length=48,
    packing="one_per_row",
  )
  made.update_from_flattened_dict({"num_forget_authors": 2, "num_retain_authors": 3})
  made.update_from_flattened_dict(changes)
  return made
