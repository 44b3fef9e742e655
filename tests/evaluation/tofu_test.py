"""TOFU's scores against float64 numpy and one full pass an answer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tofu_files
from undo_jax import testing
from undo_jax.data import tofu as data_lib
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.distributed import placement, sharding
from undo_jax.evaluation import tofu
from undo_jax.models.decoder import Decoder

ENCODE = data_lib.by_template("Q: {question}\nA: {answer}", ByteTokenizer())
SHAPES = {"bos_id": 2, "pad_id": 0}
LONGEST = 128


def question(number):
  row = tofu_files.record("F" * (1 + 20 * (number % 2)), number)
  return data_lib.Question(
    row["question"],
    row["answer"],
    "here",
    row["paraphrased_answer"],
    tuple(row["perturbed_answer"]),
  )


def without_paraphrase(question):
  return question._replace(paraphrase=question.answer)


QUESTIONS = {
  "forget": [question(n) for n in range(3)],
  "retain": [question(n) for n in range(3, 7)],
  "forget_attacked": [question(n) for n in range(7, 9)],
  "real_authors": [without_paraphrase(question(n)) for n in range(9, 12)],
  "world_facts": [without_paraphrase(question(12))],
}
SETS = {
  name: [tofu.answers(q, ENCODE, None, alone=name == "forget_attacked") for q in own]
  for name, own in QUESTIONS.items()
}


@pytest.fixture(scope="module")
def model():
  """A model of large weights, so that its answers are far apart."""
  config = testing.config(vocab_size=264, width=32, init_std=0.2)
  return Decoder(config), testing.params(config, seed=4)


@functools.cache
def forward(decoder):
  return jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)


def probabilities(model):
  """Return P(a|q)^(1/|a|) of all (q, a): a row each, softmax in float64."""
  pairs_of = [(q, a) for own in QUESTIONS.values() for q in own for a in texts(q)]
  pairs = list(dict.fromkeys((q.question, answer) for q, answer in pairs_of))
  tokens = np.full((len(pairs), LONGEST), 7)  # What follows a token is nothing to it.
  rows = []
  for row, (question, answer) in zip(tokens, pairs, strict=True):
    given = [2, *ByteTokenizer().encode(f"Q: {question}\nA:")]
    whole = [*given, *ByteTokenizer().encode(f" {answer}")]
    row[: len(whole)] = whole
    rows.append((np.asarray(whole), np.arange(len(given), len(whole))))
  by_pair = {}
  every = forward(model[0])(model[1], tokens)
  for pair, logits, (whole, places) in zip(pairs, every, rows, strict=True):
    scored = np.asarray(logits, np.float64)[places - 1]
    log_p = scored - np.log(np.exp(scored).sum(-1, keepdims=True))
    product = np.exp(sum(log_p[np.arange(len(places)), whole[places]]))
    by_pair[pair] = product ** (1 / len(places))
  return by_pair


def texts(question):
  return question.answer, question.paraphrase, *question.perturbed


def by_definition(probabilities, *, is_geometric=False):
  """Return the scores from the paper's formulas."""
  scores = {}
  for name, own_questions in QUESTIONS.items():
    per_answer = [
      [probabilities[q.question, a] for a in texts(q)] for q in own_questions
    ]
    right, other = (np.array([own[i] for own in per_answer]) for i in (0, 1))
    wrong = [own[2:] for own in per_answer]
    scores[name] = right.mean()
    if name in ("real_authors", "world_facts"):
      total = right + [sum(own) for own in wrong]
      scores[name] = (right / total).mean()
    if name == "forget_attacked":
      continue
    mean = (lambda x: np.exp(np.mean(np.log(x)))) if is_geometric else np.mean
    ratio = np.array([mean(own) for own in wrong]) / other
    kept = (
      np.minimum(ratio, 1 / ratio) if name == "forget" else np.maximum(0, 1 - ratio)
    )
    scores[f"{name}_truth_ratio"] = kept.mean()
  return scores


@pytest.fixture(scope="module")
def own(model):
  return probabilities(model)


def test_scores_are_those_of_the_formulas(model, own):
  """Over eight devices, which do not divide the rows, in parts."""
  arrays = tofu.encode(SETS, **SHAPES)
  assert len(arrays["rows"]) > 1, "questions must differ in length"
  assert max(len(bucket["question"]) for bucket in arrays["rows"].values()) > 16
  assert any(len(bucket["question"]) % 8 for bucket in arrays["rows"].values())
  mesh = testing.mesh(8)
  everywhere = sharding.replicated(mesh)
  evaluate = tofu.make_evaluate(model[0].apply, tofu.names_of(SETS), rows_at_once=16)
  given = jax.device_put((model[1], arrays), everywhere)
  scored = jax.jit(placement.on(mesh, evaluate))(*given)
  expected = by_definition(own)
  assert {k: float(v) for k, v in scored.items()} == pytest.approx(expected, rel=1e-4)
  assert 0 < expected["retain_truth_ratio"] < 1
  assert len(set(np.round(list(expected.values()), 5))) == len(expected)


def test_a_population_is_scored_in_one_program(model, own):
  """Without parts and fillings, and without one of the sets."""
  decoder, params = model
  sets = {**SETS, "world_facts": []}
  names = tofu.names_of(sets)
  assert not [name for name in names if "world" in name]
  other = jax.tree.map(lambda x: 0.9 * np.asarray(x), params)
  both = jax.tree.map(lambda *x: np.stack(x), params, other)
  evaluate = jax.vmap(tofu.make_evaluate(decoder.apply, names), in_axes=(0, None))
  together = jax.jit(evaluate)(both, tofu.encode(sets, **SHAPES))
  assert set(together) == {"retain", "forget", *names}
  alone = [by_definition(p) for p in (own, probabilities((decoder, other)))]
  for name, values in together.items():
    np.testing.assert_allclose(values, [scores[name] for scores in alone], rtol=1e-4)


def test_the_published_codes_mean_is_geometric(own):
  arrays = tofu.encode(SETS, **SHAPES)
  means = np.zeros(arrays["has"].shape, np.float32)
  questions = [q for name in tofu.SETS for q in QUESTIONS[name]]
  for row, has, q in zip(means, arrays["has"], questions, strict=True):
    every = np.log([own[q.question, text] for text in texts(q)])
    row[has] = every[: has.sum()]

  @jax.jit
  def scores(means):
    log_ratios = tofu.truth_ratios(means, arrays["has"], is_geometric=True)
    return {
      name: jnp.mean(
        tofu.of_truth_ratios(log_ratios[arrays["set"] == tofu.SETS.index(name)], name)
      )
      for name in tofu.PERTURBED
    }

  expected = by_definition(own, is_geometric=True)
  for name, score in scores(means).items():
    assert float(score) == pytest.approx(expected[f"{name}_truth_ratio"], rel=1e-4)
  assert expected["forget_truth_ratio"] != pytest.approx(
    by_definition(own)["forget_truth_ratio"], rel=1e-3
  ), "else both are one"


def test_equal_answers_share_a_row():
  counts = tofu.describe(SETS)
  # The answer stands for the paraphrase.
  wrong = sum(len(q.perturbed) for q in QUESTIONS["real_authors"])
  assert counts["real_authors"]["answers"] == 3 + wrong
  assert counts["forget_attacked"] == {
    "questions": 2,
    "answers": 2,
    "tokens": sum(
      len(a.answer.given + a.answer.scored) for a in SETS["forget_attacked"]
    ),
  }
  arrays = tofu.encode(SETS, **SHAPES)
  rows = sum(len(bucket["question"]) for bucket in arrays["rows"].values())
  assert rows == sum(own["answers"] for own in counts.values())


def test_so_many_wrong_answers_as_asked_for():
  question = QUESTIONS["forget"][0]
  answers = tofu.answers(question, ENCODE, 1)
  assert answers.perturbed == tofu.answers(question, ENCODE, None).perturbed[:1]
