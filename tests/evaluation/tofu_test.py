"""TOFU's scores against float64 numpy and one full pass an answer."""

import functools

import jax
import numpy as np
import pytest

from tests import tofu_files
from undo_jax import testing
from undo_jax.data import tofu as data_lib
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.distributed import sharding
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


def without_paraphrase(asked):
  return asked._replace(paraphrase=asked.answer)


QUESTIONS = {
  "forget": [question(n) for n in range(3)],
  "retain": [question(n) for n in range(3, 7)],
  "forget_attacked": [question(n) for n in range(7, 9)],
  "real_authors": [without_paraphrase(question(n)) for n in range(9, 12)],
  "world_facts": [without_paraphrase(question(12))],
}
SETS = {
  name: [tofu.answers(q, ENCODE, None, alone=name == "forget_attacked") for q in asked]
  for name, asked in QUESTIONS.items()
}


@pytest.fixture(scope="module")
def model():
  """A model of large weights, so that its answers are far apart."""
  made = Decoder(testing.config(vocab_size=264, width=32, init_std=0.2))
  return made, jax.jit(made.init)(jax.random.key(0))


@functools.cache
def forward(decoder):
  return jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)


def probability(model, asked, answer):
  """Returns P(a|q)^(1/|a|): a whole pass, softmax in float64."""
  given = [2, *ByteTokenizer().encode(f"Q: {asked.question}\nA:")]
  whole = [*given, *ByteTokenizer().encode(f" {answer}")]
  tokens = np.full((1, LONGEST), 7)  # What follows a token does not matter to it.
  tokens[0, : len(whole)] = whole
  logits = np.asarray(forward(model[0])(model[1], tokens)[0], np.float64)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  places = range(len(given), len(whole))
  product = np.exp(sum(log_p[place - 1, whole[place]] for place in places))
  return product ** (1 / len(places))


def by_definition(model, *, is_geometric=False):
  """Returns the scores from the paper's formulas."""
  scores = {}
  for name, asked in QUESTIONS.items():
    right = np.array([probability(model, q, q.answer) for q in asked])
    wrong = [[probability(model, q, a) for a in q.perturbed] for q in asked]
    other = np.array([probability(model, q, q.paraphrase) for q in asked])
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


@functools.cache
def evaluate_of(decoder, rows_at_once=100):
  names = tofu.names_of(SETS)
  return jax.jit(tofu.make_evaluate(decoder.apply, names, rows_at_once=rows_at_once))


def test_scores_are_those_of_the_formulas(model):
  arrays = tofu.encode(SETS, **SHAPES)
  assert len(arrays["rows"]) > 1, "questions must differ in length"
  expected = by_definition(model)
  found = evaluate_of(model[0])(model[1], arrays)
  assert {k: float(v) for k, v in found.items()} == pytest.approx(expected, rel=1e-4)
  assert 0 < expected["retain_truth_ratio"] < 1
  assert len(set(np.round(list(expected.values()), 5))) == len(expected)


def test_the_published_codes_mean_is_geometric(model):
  arrays = tofu.encode(SETS, **SHAPES)
  means = jax.jit(functools.partial(tofu.means, model[0].apply))(model[1], arrays)
  log_ratios = tofu.truth_ratios(means, arrays["has"], is_geometric=True)
  expected = by_definition(model, is_geometric=True)
  for name in tofu.PERTURBED:
    own = log_ratios[arrays["set"] == tofu.SETS.index(name)]
    found = float(np.mean(tofu.of_truth_ratios(own, name)))
    assert found == pytest.approx(expected[f"{name}_truth_ratio"], rel=1e-4)
  assert expected["forget_truth_ratio"] != pytest.approx(
    by_definition(model)["forget_truth_ratio"], rel=1e-3
  ), "else both are one"


def test_parts_fillings_and_devices_change_no_score(model):
  expected = evaluate_of(model[0])(model[1], tofu.encode(SETS, **SHAPES))
  arrays = tofu.encode(SETS, **SHAPES, multiple=8)
  assert all(len(leaf) % 8 == 0 for leaf in jax.tree.leaves(arrays))
  where = sharding.batch_sharding(testing.mesh(8))
  arrays = jax.tree.map(lambda x: jax.device_put(x, where), arrays)
  found = evaluate_of(model[0], rows_at_once=16)(model[1], arrays)
  for name, value in expected.items():
    assert float(found[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-5)


def test_a_population_is_scored_in_one_program(model):
  decoder, params = model
  arrays = tofu.encode({**SETS, "world_facts": []}, **SHAPES)
  names = tofu.names_of({**SETS, "world_facts": []})
  assert not [name for name in names if "world" in name]
  evaluate = tofu.make_evaluate(decoder.apply, names, rows_at_once=16)
  other = jax.jit(decoder.init)(jax.random.key(1))
  both = jax.tree.map(lambda *x: np.stack(x), params, other)
  together = jax.jit(jax.vmap(evaluate, in_axes=(0, None)))(both, arrays)
  alone = [jax.jit(evaluate)(tree, arrays) for tree in (params, other)]
  for name, values in together.items():
    np.testing.assert_allclose(values, [scores[name] for scores in alone], rtol=1e-4)


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
  asked = QUESTIONS["forget"][0]
  found = tofu.answers(asked, ENCODE, 1)
  assert found.perturbed == tofu.answers(asked, ENCODE, None).perturbed[:1]
