"""Teacher-forced exact match is greedy decoding, batched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import objectives, testing
from undo_jax.data import arithmetic as data
from undo_jax.data.tokenizers import BOS, EOS, make
from undo_jax.evaluation import arithmetic
from undo_jax.models.gemma2 import Gemma2
from undo_jax.training import optimizers
from undo_jax.training.state import create
from undo_jax.training.step import make_step

TOKENIZER = make("characters:ascii")


@pytest.fixture(scope="module")
def problems():
  return data.evaluation_problems(0, num_per_task=3, kinds=("equation", "word_problem"))


@pytest.fixture(scope="module")
def half_trained(problems):
  """A model that gets part of the problems right: a score of 0 proves little."""
  model = Gemma2(testing.config(vocab_size=128, width=32, mlp_width=64))
  arrays = arithmetic.encode(problems, TOKENIZER)
  batch = {k: jnp.asarray(arrays[k]) for k in ("inputs", "targets")}
  batch["mask"] = jnp.asarray(arrays["mask"], jnp.float32)
  config = optimizers.OptimizerConfig(learning_rate=1e-2, num_steps=100)
  optimizer = optimizers.make_optimizer(config)
  step = jax.jit(make_step(objectives.make("cross_entropy", model.apply), optimizer))
  state = create(model.init(jax.random.key(0)), optimizer)
  for _ in range(45):
    state, _ = step(state, (), batch, jax.random.key(1))
  return model, state.params


def greedy(apply, params, prompt, count):
  """Decodes one token after another from the prompt, as a user would."""
  tokens = list(prompt)
  for _ in range(count):
    padded = jnp.asarray([tokens + [0] * (192 - len(tokens))])
    logits = apply(params, padded)
    tokens.append(int(jnp.argmax(logits[0, len(tokens) - 1])))
  return tokens[len(prompt) :]


def test_exact_match_equals_greedy_decoding(problems, half_trained):
  model, params = half_trained
  apply = jax.jit(lambda p, t: model.apply(p, t).logits)
  arrays = arithmetic.encode(problems, TOKENIZER)
  matches = arithmetic.exact_match(
    apply(params, jnp.asarray(arrays["inputs"])), arrays["targets"], arrays["mask"]
  )
  expected = []
  for problem in problems:
    end = TOKENIZER.encode(problem.suffix)[:1] or [EOS]
    answer = [*TOKENIZER.encode(problem.answer), *end]
    prompt = [BOS, *TOKENIZER.encode(problem.prompt)]
    expected.append(greedy(apply, params, prompt, len(answer)) == answer)
  assert matches.tolist() == expected
  assert 0 < sum(expected) < len(expected), "the model must be right on some only"


def test_scores_are_accuracies_by_task_and_means_by_domain(problems, half_trained):
  model, params = half_trained
  names = arithmetic.tasks(problems)
  arrays = arithmetic.encode(problems, TOKENIZER)
  logits = model.apply(params, jnp.asarray(arrays["inputs"])).logits
  right = np.asarray(arithmetic.exact_match(logits, arrays["targets"], arrays["mask"]))
  expected = {
    name: right[[arithmetic.task_of(p) == name for p in problems]].mean()
    for name in names
  }
  scores = arithmetic.make_evaluate(model.apply, names, rows_at_once=7)(params, arrays)
  for name in names:
    np.testing.assert_allclose(scores[name], expected[name], rtol=1e-6)
  for group, operations in (("retain", data.RETAIN), ("forget", data.FORGET)):
    mean = np.mean([expected[n] for n in names if n.startswith(operations)])
    np.testing.assert_allclose(scores[group], mean, rtol=1e-6)


def test_a_longer_number_that_starts_alike_is_wrong():
  problem = data.Problem("6 * 3 = ", "18", "", "multiplication", "equation")
  arrays = arithmetic.encode([problem], TOKENIZER)
  end = len(problem.prompt) + len("18")  # Position that predicts what follows.
  logits = jax.nn.one_hot(arrays["targets"], 128)
  assert arithmetic.exact_match(logits, arrays["targets"], arrays["mask"])[0]
  one = TOKENIZER.encode("1")[0]
  longer = logits.at[0, end, one].set(2.0)
  assert not arithmetic.exact_match(longer, arrays["targets"], arrays["mask"])[0]


def test_what_precedes_the_answer_is_not_scored():
  problem = data.Problem("6 * 3 = ", "18", "", "multiplication", "equation")
  arrays = arithmetic.encode([problem], TOKENIZER)
  wrong = jnp.zeros((*arrays["targets"].shape, 128))
  right = jax.nn.one_hot(arrays["targets"], 128)
  logits = jnp.where(arrays["mask"][..., None], right, wrong)
  assert arithmetic.exact_match(logits, arrays["targets"], arrays["mask"])[0]
