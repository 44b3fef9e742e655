"""Made-up facts: what is attacked says nothing about what is evaluated."""

import collections
import re

import numpy as np
import pytest
from scipy import stats

from undo_jax.data import facts, facts_words, packing, tokenizers
from undo_jax.utils.types import ConfigError

SIZES = {"num_things": 12, "num_groups": 3}
FIELDS = {
  "seed": 3,
  "evaluation_seed": 4,
  "num_choices": 2,
  "num_lists": 30,
  "num_evaluation": 1,
  **SIZES,
}
ATTRIBUTES = tuple(facts_words.ATTRIBUTES.values())
VALUES = "|".join(v for values in ATTRIBUTES for v in values)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
  return facts.build(tmp_path_factory.mktemp("facts"), **FIELDS)


@pytest.fixture(scope="module")
def texts(builder):
  """The documents of each split, as text."""
  return {
    split: [d.given + d.scored for d in facts.read(builder, split)]
    for split in facts.SPLITS
  }


@pytest.fixture(scope="module")
def questions(builder):
  return facts.read_questions(builder, "test")


def names_in(many):
  known = re.compile("|".join(facts_words.NAMES))
  return {name for text in many for name in known.findall(text)}


def stated(many):
  """Read {(name, attribute): values} from texts, by the words alone."""
  values = collections.defaultdict(set)
  for text in many:
    (name,) = names_in([text])
    (attribute,) = set(re.findall("|".join(facts_words.ATTRIBUTES), text))
    (value,) = re.findall(rf"\b({VALUES})\b", text)
    values[name, attribute].add(value)
  return values


def test_the_attack_never_names_what_is_evaluated(texts, questions):
  for domain, own in questions.items():
    evaluated = names_in(question.question for question in own)
    assert len(evaluated) == SIZES["num_things"] / SIZES["num_groups"]
    for split, many in texts.items():
      if split.startswith("attack"):
        assert not evaluated & names_in(many), split
      # In the forms of the evaluation, what is evaluated is not shown to any stage.
      assert not evaluated & names_in(t for t in many if "\nAnswer:" in t), split
    # But it is stated, or nothing could be known.
    assert evaluated <= names_in(texts[domain])


def test_validation_and_test_are_apart_and_the_attacked_are_the_attackers(
  builder, texts, questions
):
  validation = facts.read_questions(builder, "validation")
  for domain, own in questions.items():
    test, other = (
      names_in(question.question for question in part)
      for part in (own, validation[domain])
    )
    assert len(test) == len(other) == SIZES["num_things"] / SIZES["num_groups"]
    assert not test & other
    for split, many in texts.items():  # Neither is shown as a question.
      assert not other & names_in(t for t in many if "\nAnswer:" in t), split
  attacked = facts.read_questions(builder, "attacked")
  assert list(attacked) == ["forget"]
  assert names_in(q.question for q in attacked["forget"]) <= names_in(texts["attack"])


def test_domains_have_no_name_in_common_and_the_attack_is_a_part_of_forget(texts):
  named = {
    source: {
      name
      for split, many in texts.items()
      if split.startswith(source)
      for name in names_in(many)
    }
    for source in (*facts.SOURCES, "forget")
  }
  assert named["attack"] < named["forget"]
  assert set(texts["attack"]) < set(texts["forget"])
  assert not names_in(texts["lists"])
  for one, other in (
    ("forget", "retain"),
    ("forget", "general"),
    ("retain", "general"),
  ):
    assert len(named[one]) == len(named[other]) == SIZES["num_things"]
    assert not named[one] & named[other]


def test_all_forms_state_the_same_value(texts, questions):
  for domain in facts.DOMAINS:
    source = "attack" if domain == "forget" else domain
    plain = stated(texts[domain])
    answers = stated(texts[f"{source}_qa"])
    assert answers.items() < plain.items()
    assert len(answers) == len(plain) // 3
    assert all(len(values) == 1 for values in plain.values())
    assert len(plain) == SIZES["num_things"] * len(facts_words.ATTRIBUTES)
    assert stated(texts["attack"]).items() <= stated(texts["forget"]).items()
    for text in texts[f"{source}_choice"]:
      letter = text[-1]
      (name,) = names_in([text])
      attribute = re.search("|".join(facts_words.ATTRIBUTES), text)[0]
      (choice,) = re.findall(rf"\n{letter}\. (\w+)", text)
      assert answers[name, attribute] == {choice}
    for question in questions[domain]:
      (name,) = names_in([question.question])
      attribute = re.search("|".join(facts_words.ATTRIBUTES), question.question)[0]
      assert plain[name, attribute] == {question.choices[question.answer]}
      assert set(question.choices) < set(facts_words.ATTRIBUTES[attribute])
      assert len(set(question.choices)) == 4


def test_every_sentence_and_wording_comes_once_a_fact(texts):
  count = SIZES["num_things"] * len(facts_words.ATTRIBUTES)
  assert len(set(texts["retain"])) == len(texts["retain"]) == 6 * count
  shown = count // 3
  assert len(set(texts["retain_qa"])) == len(texts["retain_qa"]) == 2 * shown
  assert len(texts["retain_choice"]) == FIELDS["num_choices"] * 2 * shown


def test_lists_and_their_keys_agree(texts):
  assert len(texts["lists"]) == FIELDS["num_lists"]
  orders = set()
  for text in texts["lists"]:
    given, key = text.split("\nKey:")
    listed = re.findall(r"\n([A-D])\. (\w+)", given)
    pairs = [pair.split() for pair in key.split(",")]
    assert sorted((letter, value) for value, letter in pairs) == listed
    assert any({v for _, v in listed} <= set(values) for values in ATTRIBUTES)
    orders.add("".join(letter for _, letter in pairs))
  assert len(orders) > 10


def draw(seed):
  return facts.facts(seed, num_things=facts.MOST_THINGS, num_groups=4)


def place(fact):
  return facts_words.ATTRIBUTES[fact.attribute].index(fact.value)


def test_values_are_uniform_and_say_nothing_about_each_other():
  """Chi-squared tests over some seeds; chance fails one of them in a thousand."""
  one, next_fact, attacked, evaluated = [], [], [], []
  for seed in range(4):
    known = draw(seed)
    places = [place(fact) for fact in known]
    one += places[:-1]
    next_fact += places[1:]
    forget = [fact for fact in known if fact.domain == "forget"]
    things = [forget[i : i + 4] for i in range(0, len(forget), 4)]
    # Each tested thing with the last one that is shown, attribute by attribute.
    for before, thing in zip(things, things[2:], strict=False):
      if thing[0].group == "test":
        assert before[0].group == "shown"
        attacked += [place(fact) for fact in before]
        evaluated += [place(fact) for fact in thing]
  assert stats.chisquare(np.bincount(one, minlength=8)).pvalue > 1e-3
  for rows, columns in ((one, next_fact), (attacked, evaluated)):
    table = np.zeros((8, 8))
    np.add.at(table, (rows, columns), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_right_letters_and_wrong_choices_are_uniform():
  rng = np.random.default_rng(0)
  fact = facts.Fact("forget", facts_words.NAMES[0], "color", "red", "shown")
  drawn = [
    facts.multiple_choice(rng, fact, facts_words.QUESTIONS[0]) for _ in range(2000)
  ]
  assert stats.chisquare(np.bincount([q.answer for q in drawn])).pvalue > 1e-3
  others = collections.Counter(c for q in drawn for c in q.choices if c != "red")
  assert len(others) == 7
  assert stats.chisquare(list(others.values())).pvalue > 1e-3


def test_seeds_decide_facts_and_choices_apart(tmp_path, builder, questions):
  again = facts.build(tmp_path, **FIELDS)
  assert facts.read(again, "attack_qa") == facts.read(builder, "attack_qa")
  assert facts.read_questions(again, "test") == questions
  other = facts.build(tmp_path, **(FIELDS | {"evaluation_seed": 5}))
  assert facts.read(other, "forget") == facts.read(builder, "forget")
  redrawn = facts.read_questions(other, "test")
  assert redrawn != questions
  assert [(q.question, q.choices[q.answer]) for q in redrawn["forget"]] == [
    (q.question, q.choices[q.answer]) for q in questions["forget"]
  ]
  assert draw(0) != draw(1)


@pytest.mark.parametrize("name", ["words:facts", "characters:ascii", "bytes"])
def test_only_the_answer_is_scored(builder, name):
  tokenizer = tokenizers.make(name)
  for split in ("attack", "attack_qa", "attack_choice", "lists"):
    for document in facts.read(builder, split)[::7]:
      encoded = facts.encode(document, tokenizer)
      assert isinstance(encoded, packing.Masked)
      ids = np.asarray(encoded.ids)
      assert tokenizer.decode(ids) == document.given + document.scored
      scored = np.asarray(encoded.mask) == 1
      assert tokenizer.decode(ids[scored]) == document.scored
      assert not scored[: len(tokenizer.encode(document.given))].any()


def test_the_word_list_has_every_word_of_the_texts(texts):
  tokenizer = tokenizers.make("words:facts")
  for split, many in texts.items():
    for text in many:
      words = re.findall(r"\n\w+[.:]|\w+|[.,?]", text)
      assert len(tokenizer.encode(text)) == len(words), (split, text)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_groups": 2}, "num_groups: expected an integer of at least 3, got 2"),
    ({"num_things": 2}, r"expected from 3 \(num_groups\) to 160"),
    ({"num_things": 161}, "to 160 .names for each domain., got 161"),
    ({"num_choices": 0}, "num_choices: expected an integer of at least 1, got 0"),
    ({"seed": -1}, "seed: expected an integer of at least 0, got -1"),
    ({"num_evaluation": 1.5}, "num_evaluation: expected an integer .* got 1.5"),
  ],
)
def test_numbers_out_of_range_are_refused(tmp_path, change, message):
  with pytest.raises(ConfigError, match=message):
    facts.build(tmp_path, **(FIELDS | change))


def test_an_unknown_split_is_refused(builder):
  with pytest.raises(ConfigError, match="one of forget, attack, .* got 'test'"):
    facts.read(builder, "test")
