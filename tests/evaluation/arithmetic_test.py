"""Teacher-forced exact match is greedy decoding, batched."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers as hf
from tokenizers import decoders, models, pre_tokenizers, trainers

from undo_jax import testing
from undo_jax.data import arithmetic as data
from undo_jax.data.tokenizers import BOS, EOS, make
from undo_jax.evaluation import arithmetic
from undo_jax.models.decoder import Decoder, Output
from undo_jax.objectives import chunked
from undo_jax.utils.types import ConfigError

TOKENIZER = make("characters:ascii")


@pytest.fixture(scope="module")
def problems():
  division = data.Division(attacked=0.5, validation=0.2)
  drawn = {
    part: data.evaluation_problems(
      0, num_per_task=2, kinds=data.KINDS, division=division, part=part
    )
    for part in ("test", "attacked")
  }
  return drawn["test"] + drawn["attacked"]


@pytest.fixture(scope="module")
def tasks(problems):
  """The problems by task: those of the test, then the attacker's."""
  attacked = problems[16:]
  return arithmetic.by_task(problems[:16]) | arithmetic.by_task(attacked, "_attacked")


def train_bpe(directory, names):
  """Byte-level BPE that joins a number's digits and the space before it."""
  tokenizer = hf.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=["<pad>", "<eos>", "<bos>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  counts = {"num_equations": 500, "num_word_problems": 500}
  drawn = data.problems(0, operations=data.OPERATIONS, split="train", **counts)
  tokenizer.train_from_iterator([problem.text for problem in drawn], trainer)
  tokenizer.save(str(directory / "tokenizer.json"))
  (directory / "tokenizer_config.json").write_text(json.dumps(names))


@pytest.fixture(scope="module", params=["characters", "bpe", "bpe_without_bos"])
def tokenizer(request, tmp_path_factory):
  if request.param == "characters":
    return TOKENIZER
  names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
  if request.param == "bpe_without_bos":
    del names["bos_token"]
  directory = tmp_path_factory.mktemp("bpe")
  train_bpe(directory, names)
  return make(f"huggingface:{directory}")


exact_match = jax.jit(arithmetic.exact_match)
MEMORY = 4  # Tokens that the model looks back on, the last one included.


class Logits(NamedTuple):
  """What a model's `apply` returns, as far as it is read."""

  logits: jax.Array


def places(tokens, size):
  """Return where in a table each context of MEMORY tokens stands, [P, L]."""
  padded = jnp.pad(tokens, ((0, 0), (MEMORY - 1, 0)))
  length = tokens.shape[1]
  return sum(padded[:, i : i + length] * 31**i for i in range(MEMORY)) % size


def apply(params, tokens, positions_BxP=None):
  """A model of the last tokens alone: the logits are a row of a table."""
  where = places(tokens, len(params))
  if positions_BxP is not None:
    where = jnp.take_along_axis(where, positions_BxP, axis=1)
  return Logits(params[where])


compiled = jax.jit(lambda *given: apply(*given).logits)


@pytest.fixture(scope="module")
def half_trained(problems, tokenizer):
  """A table that gets part of the problems right: a score of 0 proves little.

  It is filled from these problems, and the last of those that look alike stays.
  """
  arrays = arithmetic.encode({"task": problems}, tokenizer)
  params = np.zeros((4093, max(128, tokenizer.vocab_size)), np.float32)
  rows = jax.jit(places, static_argnums=1)(arrays["inputs"], len(params))
  rows = np.take_along_axis(np.asarray(rows), arrays["positions"], axis=1)
  is_scored = arrays["mask"]
  for row, target in zip(rows[is_scored], arrays["targets"][is_scored], strict=True):
    params[row] = np.eye(params.shape[1])[target]
  return params


def split(problem, tokenizer):
  """Split a problem's ids where its answer begins and after the token that ends it.

  Characters are counted; for the library's tokenizers the positions in the text that
  it returns with the tokens decide.
  """
  if tokenizer is TOKENIZER:
    end = TOKENIZER.encode(problem.suffix)[:1] or [EOS]
    prompt = [BOS, *TOKENIZER.encode(problem.prompt)]
    return prompt, [*TOKENIZER.encode(problem.answer), *end]
  encoding = tokenizer._tokenizer.encode(problem.text)
  ends = [end for _, end in encoding.offsets]
  ids = [*encoding.ids, 1]
  ends.append(len(problem.text) + 1)
  first = next(i for i, end in enumerate(ends) if end > len(problem.prompt))
  last = next(
    i for i, end in enumerate(ends) if end > len(problem.prompt + problem.answer)
  )
  bos = [] if tokenizer.bos_id is None else [2]
  return [*bos, *ids[:first]], ids[first : last + 1]


def greedy(params, prompts, counts):
  """Decode one token after another from each prompt, as a user would."""
  tokens = [list(prompt) for prompt in prompts]
  length = max(map(len, prompts)) + max(counts)
  for _ in range(max(counts)):
    padded = np.asarray([row + [0] * (length - len(row)) for row in tokens])
    likeliest_BxL = np.argmax(compiled(params, padded), axis=-1)
    for row, likeliest in zip(tokens, likeliest_BxL, strict=True):
      row.append(int(likeliest[len(row) - 1]))
  return [
    row[len(prompt) :][:count]
    for row, prompt, count in zip(tokens, prompts, counts, strict=True)
  ]


def test_exact_match_equals_greedy_decoding(problems, half_trained, tokenizer):
  arrays = arithmetic.encode({"task": problems}, tokenizer)
  logits = compiled(half_trained, arrays["inputs"], arrays["positions"])
  matches = exact_match(logits, arrays["targets"], arrays["mask"])
  parts = [split(problem, tokenizer) for problem in problems]
  prompts, answers = zip(*parts, strict=True)
  decoded = greedy(half_trained, prompts, [len(answer) for answer in answers])
  expected = [text == answer for text, answer in zip(decoded, answers, strict=True)]
  assert matches.tolist() == expected
  assert 0 < sum(expected) < len(expected), "the model must be right on some only"
  if tokenizer is not TOKENIZER:
    crossing = [
      problem.prompt != tokenizer.decode(prompt)
      for problem, (prompt, _) in zip(problems, parts, strict=True)
    ]
    assert any(crossing), "a token must hold the prompt's end and the answer's start"


def test_scores_are_accuracies_by_task_and_means_by_domain(
  tasks, half_trained, tokenizer
):
  names = list(tasks)
  arrays = arithmetic.encode(tasks, tokenizer)
  logits = compiled(half_trained, arrays["inputs"], arrays["positions"])
  right = np.asarray(exact_match(logits, arrays["targets"], arrays["mask"]))
  # Two problems of each task, in their order.
  expected = dict(zip(names, right.reshape(-1, 2).mean(axis=1), strict=True))
  evaluate = jax.jit(arithmetic.make_evaluate(apply, names, rows_at_once=7))
  scores = evaluate(half_trained, arrays)
  for name in names:
    np.testing.assert_allclose(scores[name], expected[name], rtol=1e-6)
  forget = [f"{op}_{kind}" for op in data.FORGET for kind in data.KINDS]
  groups = {
    "retain": [f"{op}_{kind}" for op in data.RETAIN for kind in data.KINDS],
    "forget": forget,
    "forget_attacked": [f"{name}_attacked" for name in forget],
  }
  assert sorted(scores) == sorted([*groups, *names])
  for group, members in groups.items():
    mean = np.mean([expected[name] for name in members])
    np.testing.assert_allclose(scores[group], mean, rtol=1e-6)


def test_logits_of_scored_positions_alone_are_computed_and_in_chunks(tasks):
  names, arrays = list(tasks), arithmetic.encode(tasks, TOKENIZER)
  length, vocabulary = arrays["inputs"].shape[1], 131
  params = testing.params(testing.config(vocab_size=vocabulary))
  scores = []
  for chunk in (None, 2):
    decoder = Decoder(testing.config(vocab_size=vocabulary, logits_chunk=chunk))
    evaluate = arithmetic.make_evaluate(chunked.deferring(decoder), names)
    program = str(jax.make_jaxpr(evaluate)(params, arrays))
    assert f",{length},{vocabulary}]" not in program
    scored = f",{arrays['targets'].shape[1]},{vocabulary}]"
    assert (scored in program) == (chunk is None)
    scores.append(jax.jit(evaluate)(params, arrays))
  assert scores[0] == scores[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_no_wrong_answers(value):
  """All wrong would be the best that can be of what is to be forgotten."""
  drawn = [(f"{op}_equation", op) for op in (*data.RETAIN, *data.FORGET)]
  made = {
    name: [data.Problem("6 * 3 = ", "18", "", op, "equation", "")] for name, op in drawn
  }
  arrays = arithmetic.encode(made, TOKENIZER)
  row, place = len(made) - 1, arrays["positions"][-1, -1]
  logits = np.zeros((*arrays["inputs"].shape, 128), np.float32)
  right = np.eye(128, dtype=np.float32)[arrays["targets"]]
  np.put_along_axis(logits, arrays["positions"][..., None], right, axis=1)
  given = logits.copy()
  given[row, place, 5] = value
  # Before the answer and its end nothing is scored.
  logits[row, place - len("18") - 1, 5] = value

  def apply(logits, _, positions_BxP):
    return Output(jnp.take_along_axis(logits, positions_BxP[..., None], axis=1), {})

  evaluate = arithmetic.make_evaluate(apply, list(made))
  for each, expected in ((given, np.nan), (logits, 1.0)):
    scores = evaluate(jnp.asarray(each), arrays)
    for group in ("retain", "forget"):
      np.testing.assert_equal(float(scores[group]), expected)


def test_a_longer_number_that_starts_alike_is_wrong():
  problem = data.Problem("6 * 3 = ", "18", "", "multiplication", "equation", "")
  arrays = arithmetic.encode({"task": [problem]}, TOKENIZER)
  # After the two digits what follows them is predicted.
  assert arrays["positions"][0, 2] == len(problem.prompt) + len("18")
  logits = np.eye(128, dtype=np.float32)[arrays["targets"]]
  assert exact_match(logits, arrays["targets"], arrays["mask"])[0]
  logits[0, 2, TOKENIZER.encode("1")[0]] = 2.0
  assert not exact_match(logits, arrays["targets"], arrays["mask"])[0]


def test_after_a_shorter_answer_nothing_is_scored():
  drawn = [("6 * 3 = ", "18"), ("2 * 3 = ", "6")]
  problems = [
    data.Problem(*texts, "", "multiplication", "equation", "") for texts in drawn
  ]
  arrays = arithmetic.encode({"task": problems}, TOKENIZER)
  assert arrays["mask"].tolist() == [[True, True, True], [True, True, False]]
  right = np.eye(128, dtype=np.float32)[arrays["targets"]]
  right[1, 2] = -right[1, 2]
  assert exact_match(right, arrays["targets"], arrays["mask"]).tolist() == [True, True]


class Pairs:
  """Two characters a token, the last one alone where the text is odd."""

  vocab_size, pad_id, eos_id = 2**16, 0, 1

  def __init__(self, bos_id=2):
    self.bos_id = bos_id

  def encode(self, text):
    pairs = [text[i : i + 2] for i in range(0, len(text), 2)]
    return [int.from_bytes(pair.encode()) for pair in pairs]

  def decode(self, ids):
    return b"".join(i.to_bytes(2).lstrip(b"\0") for i in ids).decode()


class Whole(Pairs):
  """A token is a whole text."""

  def encode(self, text):
    return [int.from_bytes(text.encode())]

  def decode(self, ids):
    return b"".join(i.to_bytes(99).lstrip(b"\0") for i in ids).decode()


class Lossy(Pairs):
  """Digits become the same unknown token."""

  def encode(self, text):
    return super().encode("".join("?" if c.isdigit() else c for c in text))


@pytest.mark.parametrize(
  "prompt, answer, suffix, given, scored",
  [
    ("6 * 3 = ", "18", "", ["6 ", "* ", "3 ", "= "], ["18"]),
    ("16 * 3 = ", "48", "", ["16", " *", " 3", " ="], [" 4", "8"]),
    ("6 * 3 = ", "18", " in all", ["6 ", "* ", "3 ", "= "], ["18", " i"]),
    ("16 * 3 = ", "48", " in all", ["16", " *", " 3", " ="], [" 4", "8 "]),
    ("16 - 9 = ", "7", " in all", ["16", " -", " 9", " ="], [" 7", " i"]),
  ],
)
def test_tokens_across_the_answers_ends_are_scored(
  prompt, answer, suffix, given, scored
):
  problem = data.Problem(prompt, answer, suffix, "multiplication", "equation", "")
  for bos_id, front in ((2, [2]), (None, [])):
    ids = arithmetic.prompt_and_scored(problem, Pairs(bos_id))
    end = [] if suffix else [1]
    expected = [Pairs().encode(pair)[0] for pair in scored] + end
    assert ids == (front + [Pairs().encode(pair)[0] for pair in given], expected)


def test_a_tokenizer_that_changes_the_text_is_refused():
  problem = data.Problem("6 * 3 = ", "18", "", "multiplication", "equation", "")
  message = r"as it was, got '\? \* \? = \?\?' for '6 \* 3 = 18'"
  with pytest.raises(ConfigError, match=message):
    arithmetic.encode({"task": [problem]}, Lossy())


def test_an_answer_needs_something_before_it():
  problem = data.Problem("6 * 3 = ", "18", "", "multiplication", "equation", "")
  prompt, scored = arithmetic.prompt_and_scored(problem, Whole())
  assert (prompt, len(scored)) == ([2], 2)
  with pytest.raises(ConfigError, match="a token before the answer or a BOS"):
    arithmetic.encode({"task": [problem]}, Whole(bos_id=None))


def test_arrays_are_padded_by_the_tokenizers_pad():
  problem = data.Problem("6 * 3 = ", "18", "", "multiplication", "equation", "")
  tokenizer = Pairs()
  tokenizer.pad_id = 77
  arrays = arithmetic.encode({"task": [problem]}, tokenizer)
  given = tokenizer.encode("6 * 3 = 18")
  assert arrays["inputs"][0].tolist() == [2, *given, 77, 77]
  assert arrays["positions"][0].tolist() == [4, 5]
  assert arrays["targets"][0].tolist() == [given[-1], 1]
  assert arrays["mask"][0].tolist() == [True] * 2
