"""MUSE's table of a model: what it repeats, what it knows, what its losses give away.

  verbatim memorization   ROUGE-L of what a model says after a prompt of the forget
                          texts, against what follows there; beside it exact
                          memorization and extraction strength of what follows
  knowledge memorization  ROUGE-L of answers to questions about the forget and the
                          retain texts, after worked examples where there are some
  privacy leakage         how far the membership of the forget texts shows, by Min-K%
                          and others, beside a model that never saw them

ROUGE-L is the F measure, words stemmed. Files are those of data/muse.py. As in
open-unlearning, but that the space before an answer is the answer's, since most
tokenizers join it to the word that follows.

Reference: Shi et al., MUSE, arXiv 2407.06460, section 3.
"""

from collections.abc import Callable, Sequence
import functools
import pathlib
from typing import NamedTuple

import numpy as np

from undo_jax.data import muse
from undo_jax.data.tofu import spread
from undo_jax.evaluation import membership, memorization
from undo_jax.evaluation.subject import Subject
from undo_jax.utils import tables
from undo_jax.utils.types import ConfigError, JsonObject

GROUPS = ("verbatim", "knowledge", "privacy")
STOPS = ("\n\n", "\nQuestion", "Question:")  # Which end an answer.
EXAMPLES = "_icl"  # At the end of the name of a split of worked examples.


class Limits(NamedTuple):
  """How much is measured; the defaults are MUSE's."""

  rows: int | None = None  # Of each split, evenly spaced; None: all.
  verbatim_tokens: int = 128  # Of a continuation.
  answer_tokens: int = 32
  text_tokens: int = 2048  # Of a text whose membership is asked for, the first ones.


MUSE = Limits()


def measure(
  subject: Subject,
  directory: pathlib.Path,
  *,
  groups: Sequence[str] = GROUPS,
  limits: Limits = MUSE,
) -> JsonObject:
  """Measure a model.

  Args:
    subject: the model.
    directory: with the benchmark's files.
    groups: of GROUPS.
    limits: how much.

  Returns:
    By group its scores and how many rows they rest on; JSON.

  Raises:
    ConfigError: if a file is missing or cannot be read, or a text has no token.
  """
  read = functools.cache(functools.partial(_read, directory, limits.rows))
  return {name: _MEASURES[name](subject, read, limits) for name in groups}


def check(directory: pathlib.Path, groups: Sequence[str] = GROUPS) -> None:
  """Raise ConfigError where a file is missing or cannot be read."""
  for name in groups:
    for group, split in SPLITS[name]:
      muse.read(directory, group, split)
      _read(directory, None, group, f"{split}{EXAMPLES}")


def privacy_leakage(measured: JsonObject, reference: JsonObject) -> dict[str, float]:
  """Return PrivLeak by attack, of two models' groups `privacy`; see membership.py."""
  return {
    name: membership.privacy_leakage(measured["auc"][name], reference["auc"][name])
    for name in measured["auc"]
  }


def text(measured: JsonObject) -> str:
  """Return the scores for a terminal."""
  rows = []
  for group, scores in measured.items():
    for name, value in scores.items():
      values = value.items() if isinstance(value, dict) else [(None, value)]
      for own, number in values:
        if isinstance(number, float):
          label = f"{name}, {own}" if own else name
          rows.append((group, label.replace("_", " "), f"{number:.3f}"))
  return tables.text(("group", "score", "value"), rows)


def _verbatim(subject: Subject, read: Callable, limits: Limits) -> JsonObject:
  rows = read("verbmem", "forget")
  encode, decode = subject.tokenizer.encode, subject.tokenizer.decode
  pairs = [_joined(encode, prompt, rest) for prompt, rest in rows]
  size = limits.verbatim_tokens
  said = subject.say([given for given, _ in pairs], size)
  truths = [decode(rest[:size]).strip() for _, rest in pairs]
  hits = [each.is_likeliest for each in subject.tokens(pairs)]
  return {
    "rouge_l": _mean(memorization.rouge_l(truths, said, statistic="fmeasure")),
    "exact_memorization": _mean([memorization.exact(each) for each in hits]),
    "extraction_strength": _mean(
      [memorization.extraction_strength(each, needs_token=True) for each in hits]
    ),
    "rows": len(rows),
  }


def _knowledge(subject: Subject, read: Callable, limits: Limits) -> JsonObject:
  measured: JsonObject = {"rouge_l": {}, "rows": {}}
  for whose in ("forget", "retain"):
    rows = read("knowmem", f"{whose}_qa")
    shown = read("knowmem", f"{whose}_qa{EXAMPLES}")
    before = "".join(f"Question: {q}\nAnswer: {a}\n\n" for q, a in shown)
    written = [f"{before}Question: {question}\nAnswer:" for question, _ in rows]
    prompts = [subject.tokenizer.encode(text) for text in written]
    said = subject.say(prompts, limits.answer_tokens, STOPS)
    scores = memorization.rouge_l([a for _, a in rows], said, statistic="fmeasure")
    measured["rouge_l"][whose], measured["rows"][whose] = _mean(scores), len(rows)
  return measured


def _privacy(subject: Subject, read: Callable, limits: Limits) -> JsonObject:
  scores = {}
  for split in ("forget", "holdout"):
    texts = [subject.tokenizer.encode(t) for (t,) in read("privleak", split)]
    cut = [ids[: limits.text_tokens] for ids in texts]
    # Without a token that begins a text, its first one is given.
    given = 0 if subject.bos else 1
    pairs = [(ids[:given], ids[given:]) for ids in cut]
    if not all(rest for _, rest in pairs):
      raise ConfigError(
        f"expected texts of at least {given + 1} tokens in privleak/{split}, got one "
        f"of {min(map(len, cut))}; get the file anew"
      )
    scores[split] = subject.tokens(pairs, standardize=True)
  auc = {
    name: membership.auc(
      *([attack(each) for each in scores[split]] for split in ("forget", "holdout"))
    )
    for name, attack in membership.ATTACKS.items()
  }
  return {"auc": auc, "rows": {split: len(own) for split, own in scores.items()}}


_MEASURES = {"verbatim": _verbatim, "knowledge": _knowledge, "privacy": _privacy}
# The files that a group needs; worked examples may be missing.
SPLITS = {
  "verbatim": (("verbmem", "forget"),),
  "knowledge": (("knowmem", "forget_qa"), ("knowmem", "retain_qa")),
  "privacy": (("privleak", "forget"), ("privleak", "holdout")),
}


def _read(
  directory: pathlib.Path, rows: int | None, group: str, split: str
) -> list[tuple[str, ...]]:
  """Return a split's rows, so many; of worked examples all, or none."""
  if split.endswith(EXAMPLES):
    is_there = muse.has(directory, group, split)
    return muse.read(directory, group, split) if is_there else []
  return spread(muse.read(directory, group, split), rows)


def _joined(
  encode: Callable[[str], list[int]], prompt: str, rest: str
) -> tuple[list[int], list[int]]:
  """Return a prompt's ids, and those of what follows it, a space between both."""
  prompt, between = prompt.rstrip(), "" if rest[:1].isspace() else " "
  given = encode(prompt)
  following = encode(prompt + between + rest)[len(given) :]
  if not following:
    raise ConfigError(
      f"expected a token for {rest[:20]!r} after {prompt[-20:]!r} in verbmem/forget, "
      "but the tokenizer joins them; choose the model's own tokenizer"
    )
  return given, following


def _mean(values: Sequence[float]) -> float:
  return float(np.mean(values))
