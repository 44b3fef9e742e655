"""MUSE's table against passes of a tiny model in float64, one text at a time."""

import functools

import jax
import numpy as np
import pytest

from tests import muse_files
from undo_jax import testing
from undo_jax.data import muse as files
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.evaluation import membership, memorization, muse
from undo_jax.evaluation.muse import Limits
from undo_jax.evaluation.subject import Subject, up_to
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

CONFIG = testing.config(vocab_size=264, init_std=0.2)
LENGTH = 96
LIMITS = Limits(verbatim_tokens=5, answer_tokens=4, text_tokens=12)
encode, decode = ByteTokenizer().encode, ByteTokenizer().decode


@pytest.fixture(scope="module")
def params():
  return testing.params(CONFIG)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("muse")
  muse_files.write(path)
  return path


@pytest.fixture(scope="module")
def actual(params, directory):
  subject = Subject(CONFIG, params, ByteTokenizer(), batch_size=4)
  return muse.measure(subject, directory, limits=LIMITS)


@functools.cache
def forward():
  decoder = Decoder(CONFIG)
  return jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)


def log_probabilities(params, ids):
  """Return log p [L, V] of what follows each token, in float64."""
  tokens = np.full((1, LENGTH), 7)  # What follows a token does not matter to it.
  tokens[0, : len(ids)] = ids
  logits = np.asarray(forward()(params, tokens)[0, : len(ids)], np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def said(params, ids, count):
  new = []
  while len(new) < count and new[-1:] != [ByteTokenizer.eos_id]:
    new.append(int(np.argmax(log_probabilities(params, ids + new)[-1])))
  return decode(new).strip()


def f_measure(truth, text):
  (actual,) = memorization.rouge_l([truth], [text], statistic="fmeasure")
  return actual


def test_verbatim_memorization_is_that_of_texts_one_by_one(params, directory, actual):
  rouge, exact, strength = [], [], []
  for prompt, rest in files.read(directory, "verbmem", "forget"):
    given, following = [2, *encode(prompt)], encode(f" {rest}")
    text = said(params, given, 5)
    rouge.append(f_measure(decode(following[:5]).strip(), text))
    likeliest = log_probabilities(params, given + following)[len(given) - 1 : -1]
    hits = likeliest.argmax(-1) == following
    exact.append(hits.mean())
    ends = [k for k in range(len(hits)) if hits[k:].all()]
    strength.append(1 - (ends or [len(hits) - 1])[0] / len(hits))
  assert actual["verbatim"] == {
    "rouge_l": pytest.approx(np.mean(rouge)),
    "exact_memorization": pytest.approx(np.mean(exact)),
    "extraction_strength": pytest.approx(np.mean(strength)),
    "rows": 5,
  }


def test_answers_come_after_examples_and_end_at_the_next_question(
  monkeypatch, directory
):
  class Speaker(Subject):
    prompts = []

    def __init__(self):
      self.tokenizer, self.bos = ByteTokenizer(), (2,)

    def say(self, prompts, max_new_tokens, stops=()):
      assert max_new_tokens == 4
      self.prompts += [decode(each) for each in prompts]
      return [up_to(" 2 of them\nQuestion: more?", stops) for _ in prompts]

  speaker = Speaker()
  scores = muse.measure(speaker, directory, groups=("knowledge",), limits=LIMITS)
  shown = "Question: Hats of Zoe?\nAnswer: 26\n\n"
  assert speaker.prompts[0] == f"{shown}Question: Hats of Ann?\nAnswer:"
  assert speaker.prompts[5] == "Question: Why?\nAnswer:"
  # "2 of them" is right once, and has two of three words else.
  expected = {"forget": pytest.approx((1 + 4 * 2 / 3) / 5), "retain": 0.0}
  assert scores["knowledge"] == {
    "rouge_l": expected,
    "rows": {"forget": 5, "retain": 1},
  }


def test_an_answer_that_begins_with_a_stop_is_empty():
  assert up_to("\n\nQuestion: more?", muse.STOPS) == ""
  assert up_to(" yes\n\nno", muse.STOPS) == up_to("yes ", ()) == "yes"


def test_membership_is_that_of_texts_one_by_one(params, directory, actual):
  scores = {"forget": [], "holdout": []}
  for split, own in scores.items():
    for (text,) in files.read(directory, "privleak", split):
      ids = [2, *encode(text)[:12]]
      log_p = log_probabilities(params, ids)[:-1]
      p = np.exp(log_p)
      mean = (p * log_p).sum(-1)
      std = np.sqrt((p * log_p**2).sum(-1) - mean**2)
      chosen = log_p[np.arange(12), ids[1:]]
      least = [np.sort(x)[:4].mean() for x in (chosen, (chosen - mean) / std)]
      own.append((-chosen.mean(), -least[0], -least[1]))
  for column, name in enumerate(membership.ATTACKS):
    forget, holdout = ([row[column] for row in scores[s]] for s in scores)
    pairs = [(f > h) + (f == h) / 2 for f in forget for h in holdout]
    assert actual["privacy"]["auc"][name] == pytest.approx(np.mean(pairs))
  assert actual["privacy"]["rows"] == {"forget": 5, "holdout": 3}


def test_leakage_is_beside_a_reference(actual):
  reference = {"auc": dict.fromkeys(membership.ATTACKS, 0.5)}
  leakage = muse.privacy_leakage(actual["privacy"], reference)
  expected = 200 * actual["privacy"]["auc"]["min_k"] - 100
  assert leakage["min_k"] == pytest.approx(expected)
  text = muse.text(actual | {"privacy": actual["privacy"] | {"leakage": leakage}})
  for part in ("auc, min k plus plus", "leakage, loss", "rouge l, retain"):
    assert part in text


def test_missing_files_are_named_before_a_model_is_read(tmp_path):
  muse_files.write(tmp_path)
  muse.check(tmp_path)
  (tmp_path / "privleak" / "holdout.json").unlink()
  with pytest.raises(ConfigError, match="a file privleak/holdout with one of"):
    muse.check(tmp_path)
  muse.check(tmp_path, ("verbatim", "knowledge"))
