"""The made-up task: its splits become rows, its questions scores."""

import jax
import numpy as np
import pytest

from tests import minimal
from undo_jax import config as builders
from undo_jax import testing
from undo_jax.data import facts as data_lib
from undo_jax.data import tokenizers
from undo_jax.models.decoder import Decoder, Output
from undo_jax.tasks import facts
from undo_jax.utils.types import ConfigError

SEEDS = {"data": 0, "eval": 1}
DATA = {
  "num_things": 6,
  "num_groups": 3,
  "num_choices": 1,
  "num_lists": 10,
  "form": "letters",
  "num_evaluation": 2,
  "tokenizer": "words:facts",
  "sequence_length": 40,
  "packing": "packed",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  directory = tmp_path_factory.mktemp("data")
  return directory, facts.prepare(DATA, SEEDS, directory, "data")


def test_rows_hold_the_documents_of_their_split(prepared):
  directory, outcome = prepared
  tokenizer = tokenizers.make(DATA["tokenizer"])
  builder = facts._documents(DATA, SEEDS, directory)
  assert tuple(outcome["rows"]) == facts.splits(DATA)
  for split, count in outcome["rows"].items():
    rows = facts.source(DATA, directory, split)
    assert len(rows) == count
    # Rows overlap by one token.
    tokens = [rows[i]["tokens"][i > 0 :].tolist() for i in range(count)]
    whole = tokenizer.decode([t for row in tokens for t in row])
    documents = data_lib.read(builder, split)
    assert whole == "".join(d.given + d.scored for d in documents)
    scored = sum(int(rows[i]["mask"][1:].sum()) for i in range(count))
    texts = [tokenizer.encode(d.scored) for d in documents]
    # The end of each document is scored, and BOS before a statement; not the first.
    ends = sum(1 + (d.given == "") for d in documents)
    assert scored == sum(map(len, texts)) + ends - (documents[0].given == "")


def test_what_the_scores_rest_on_is_recorded(prepared):
  _, outcome = prepared
  # 2 of 6 things, 4 attributes, 2 wordings, 2 of each.
  counts = {"questions": 2 * 4 * 2 * 2, "shots": 0}
  names = ("elixirs", "comets", "islands", "elixirs_attacked")
  assert outcome["tasks"] == dict.fromkeys(names, counts)
  assert outcome["evaluation"] == 4 * 32


def test_forget_is_elixirs_and_retain_the_rest(prepared):
  """A model that knows how often each letter is right on each subject."""
  directory, _ = prepared
  names, arrays = facts.problems(DATA, SEEDS, directory)
  assert names == ("elixirs", "comets", "islands", "elixirs_attacked")
  tokenizer = tokenizers.make(DATA["tokenizer"])
  (letter,) = tokenizer.encode(" A")
  (elixir,) = tokenizer.encode(" elixir")

  def apply(params, tokens, positions_BxP):
    """Say A of elixirs and B of all else."""
    is_elixir = (tokens == elixir).any(axis=1)
    said = jax.numpy.where(is_elixir, letter, letter + 1)
    return Output(jax.nn.one_hot(said, 648)[:, None] * 5.0, {})

  builder = facts._documents(DATA, SEEDS, directory)
  by_domain = data_lib.read_questions(builder, "test")
  attacked = data_lib.read_questions(builder, "attacked")["forget"]
  rest = [q.answer for name in ("retain", "general") for q in by_domain[name]]
  scores = jax.jit(facts.make_evaluate(apply, names, rows_at_once=7))({}, arrays)
  assert float(scores["forget"]) == pytest.approx(
    np.mean([q.answer == 0 for q in by_domain["forget"]])
  )
  assert float(scores["retain"]) == pytest.approx(np.mean(np.equal(rest, 1)))
  assert float(scores["forget_attacked"]) == pytest.approx(
    np.mean([q.answer == 0 for q in attacked])
  )
  assert set(scores) == {"forget", "retain", "forget_attacked", *names}


def test_arrays_can_be_sharded(prepared):
  directory, _ = prepared
  names, arrays = facts.problems(DATA, SEEDS, directory)
  assert all(len(leaf) % 8 == 0 for leaf in jax.tree.leaves(arrays))
  vocab_size = tokenizers.make(DATA["tokenizer"]).vocab_size
  decoder = Decoder(testing.config(vocab_size=vocab_size))
  params = minimal.params(decoder.config)
  scores = jax.jit(facts.make_evaluate(decoder.apply, names))(params, arrays)
  assert all(0 <= float(score) <= 1 for score in scores.values())


@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_groups": 2}, "config.data.num_groups: expected an integer of at least 3"),
    (
      {"num_things": 2},
      "config.data.num_things: expected an integer from num_groups=4",
    ),
    ({"num_things": 200}, "to 160, the number of names, got 200"),
    ({"num_choices": 0}, "config.data.num_choices: expected an integer of at least 1"),
    (
      {"form": "essay"},
      "config.data.form: expected one of cloze, letters, got 'essay'",
    ),
    ({"num_lists": 0}, "config.data.num_lists: expected an integer of at least 1"),
    ({"num_evaluation": 0}, "config.data.num_evaluation: expected an integer of at l"),
    (
      {"sequence_length": 15, "packing": "one_per_row"},
      "config.data.sequence_length: expected at least 20 with packing one_per_row",
    ),
  ],
)
def test_settings_out_of_range_are_refused(change, message):
  config = builders.shipped("wmdp:tiny")
  config.data.update(change)
  with pytest.raises(ConfigError, match=message):
    facts.check(config.data)


def test_the_tiny_config_is_accepted():
  facts.check(builders.shipped("wmdp:tiny").data)
