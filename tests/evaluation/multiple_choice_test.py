"""Multiple choice against lm_eval's own tasks, and against one pass a choice."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.data import questions as questions_lib
from undo_jax.data.questions import Question, QuestionSet
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.distributed import placement, sharding
from undo_jax.evaluation import multiple_choice
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

LONGEST = 320  # More bytes than any prompt has that is scored by its definition.
SUBJECTS = ("us_foreign_policy", "virology")
TEXTS = ("Why?", "Which of these is the largest number of all?", "Grün und Blau?")


class Words(ByteTokenizer):
  """Bytes, but some letters after a space are a token; " D" is spelled."""

  vocab_size = ByteTokenizer.vocab_size + 3

  def encode(self, text):
    parts = []
    for i, part in enumerate(text.split(" ")):
      known = i > 0 and part in ("A", "B", "C")
      text = part if i == 0 else f" {part}"
      parts += [259 + "ABC".index(part)] if known else super().encode(text)
    return parts


TOKENIZERS = {"letters are two tokens": ByteTokenizer(), "one or two": Words()}


def draw(rng, count, subject):
  """Draw questions with texts of very different lengths."""
  return [
    Question(
      question=f"{i}: {TEXTS[rng.integers(3)] * int(rng.integers(1, 4))}",
      choices=tuple(f"{rng.integers(10 ** rng.integers(1, 9))}" for _ in range(4)),
      answer=int(rng.integers(4)),
      subject=subject,
    )
    for i in range(count)
  ]


@pytest.fixture(scope="module")
def tasks():
  rng = np.random.default_rng(0)
  scored = [q for s in SUBJECTS for q in draw(rng, 9, s)]
  shown = [q for s in SUBJECTS for q in draw(rng, 3, s)]
  wmdp = questions_lib.wmdp_task("wmdp_bio", draw(rng, 11, ""))
  return [wmdp, *questions_lib.mmlu_tasks(scored, shown, num_shots=2)]


@pytest.fixture(scope="module")
def model():
  """A model of large weights, so that its choices are far apart."""
  config = testing.config(vocab_size=264, width=32, init_std=0.4)
  return Decoder(config), testing.params(config)


GROUPS = {"forget": ["wmdp_bio"], "retain": [f"mmlu_{s}" for s in SUBJECTS]}


def make_evaluate(model, tasks, **kwargs):
  names = [task.name for task in tasks]
  return multiple_choice.make_evaluate(model[0].apply, names, groups=GROUPS, **kwargs)


@functools.cache
def score(decoder):
  return jax.jit(functools.partial(multiple_choice.log_likelihoods, decoder.apply))


@functools.cache
def forward(decoder):
  return jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)


def by_definition(model, task, question, tokenizer):
  """Return log p of each letter: a row for each choice, softmax in float64."""
  text = questions_lib.context(task, question)
  given = [2, *tokenizer.encode(text)]
  choices = question.choices if task.is_cloze else "ABCD"
  rows = [[2, *tokenizer.encode(f"{text} {choice}")] for choice in choices]
  tokens = np.full((len(rows), LONGEST), 7)  # What follows a token is nothing to it.
  for row, whole in zip(tokens, rows, strict=True):
    row[: len(whole)] = whole
  sums = []
  for logits, whole in zip(forward(model[0])(model[1], tokens), rows, strict=True):
    places = np.arange(len(given), len(whole))
    scored = np.asarray(logits, np.float64)[places - 1]
    log_p = scored - np.log(np.exp(scored).sum(-1, keepdims=True))
    sums.append(sum(log_p[np.arange(len(places)), np.asarray(whole)[places]]))
  return sums


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_log_likelihoods_are_those_of_one_pass_a_choice(model, tasks, tokenizer):
  decoder, params = model
  few, shown = tasks[0].questions, tasks[1].shots[:1]
  cloze = QuestionSet("cloze", "", few[:3], few[8:9], is_cloze=True)
  shot = questions_lib.limited(tasks[1], 2)._replace(shots=shown)
  tasks = [questions_lib.limited(tasks[0], 4), shot, cloze]
  arrays = multiple_choice.encode(tasks, tokenizer)
  assert len(arrays["rows"]) > 1, "questions must differ in length"
  actual = jax.jit(
    lambda p, a: multiple_choice.log_likelihoods(decoder.apply, p, a, rows_at_once=3)
  )(params, arrays)
  expected = [
    by_definition(model, task, question, tokenizer)
    for task in tasks
    for question in task.questions
  ]
  np.testing.assert_allclose(actual, expected, atol=2e-4)
  assert len(set(np.argmax(expected, axis=1))) > 1, "else every model does"


def test_choices_read_alike_share_a_row(tasks):
  count = sum(len(task.questions) for task in tasks)
  for tokenizer, rows in zip(TOKENIZERS.values(), (count, 2 * count), strict=True):
    arrays = multiple_choice.encode(tasks, tokenizer)
    assert sum(len(b["question"]) for b in arrays["rows"].values()) == rows
  for length, bucket in arrays["rows"].items():
    assert bucket["inputs"].shape[1] == int(length)
    assert bucket["inputs"].size < 2 * (bucket["inputs"] != 0).sum() + 9 * len(bucket)


@pytest.fixture(scope="module")
def short():
  """Task of the groups' names, of different sizes, whose questions are short."""
  rng = np.random.default_rng(1)
  names = [name for group in GROUPS.values() for name in group]
  return [
    QuestionSet(name, "", tuple(q._replace(question="Why?") for q in draw(rng, n, "")))
    for name, n in zip(names, (7, 9, 2), strict=True)
  ]


def log_likelihoods(model, short):
  arrays = multiple_choice.encode(short, TOKENIZERS["one or two"])
  return np.asarray(score(model[0])(model[1], arrays))


def test_a_populations_scores_are_accuracies_and_groups_count_questions_alike(
  model, short
):
  """Of three models, the last one of which likes all choices alike."""
  decoder, params = model
  other = testing.params(decoder.config, seed=1)
  zero = jax.tree.map(np.zeros_like, params)
  every = jax.tree.map(lambda *x: np.stack(x), params, other, zero)
  fn = make_evaluate(model, short, rows_at_once=32)
  arrays = multiple_choice.encode(short, TOKENIZERS["one or two"])
  scores = jax.jit(jax.vmap(fn, in_axes=(0, None)))(every, arrays)
  assert set(scores) == {*GROUPS, *(task.name for task in short)}
  answers = np.array([question.answer for task in short for question in task.questions])
  nats = [log_likelihoods((decoder, tree), short) for tree in (params, other)]
  chosen = [*(np.argmax(x, axis=1) for x in nats), np.zeros_like(answers)]
  for i, choice in enumerate(chosen):
    hits = choice == answers
    expected = {
      "wmdp_bio": hits[:7].mean(),
      "mmlu_us_foreign_policy": hits[7:16].mean(),
      "mmlu_virology": hits[16:].mean(),
      "forget": hits[:7].mean(),
      "retain": hits[7:].mean(),
    }
    assert {k: float(v[i]) for k, v in scores.items()} == pytest.approx(expected)
    assert 0 < expected["retain"] < 1
  assert not np.array_equal(chosen[0], chosen[1])
  assert expected["retain"] != pytest.approx(
    (expected["mmlu_us_foreign_policy"] + expected["mmlu_virology"]) / 2
  ), "else weighting by size is not seen"


def test_long_texts_count_by_the_character(model):
  """Log-likelihoods -6, -4, -9, -8 of 3, 1, 9, 2 characters: -1 is the third's."""
  choices = ("abc", "a", "abcdefghi", "ab")
  question = Question("Which?", choices, 2)
  task = questions_lib.wmdp_task("wmdp_bio_cloze", [question])
  nats = np.array([[-6.0, -4.0, -9.0, -8.0]])
  for is_normalized, expected in ((True, 1.0), (False, 0.0)):
    own = task._replace(is_normalized=is_normalized)
    arrays = multiple_choice.encode([own], ByteTokenizer())
    sizes = [3, 1, 9, 2] if is_normalized else [1, 1, 1, 1]
    np.testing.assert_array_equal(arrays["size"], [sizes])
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(multiple_choice, "log_likelihoods", lambda *a, **k: nats)
      evaluate = multiple_choice.make_evaluate(
        model[0].apply, [task.name], groups={"forget": [task.name]}
      )
      assert evaluate(model[1], arrays)["forget"] == expected


def test_a_model_that_is_not_finite_has_no_accuracy(model, short):
  """The first choice would be taken for its answer, right a quarter of the time."""
  decoder, params = model
  broken = params | {"embedding": params["embedding"] * np.float32(np.nan)}
  every = jax.tree.map(lambda *x: np.stack(x), params, broken)
  arrays = multiple_choice.encode(short, TOKENIZERS["one or two"])
  fn = jax.jit(
    jax.vmap(make_evaluate(model, short, rows_at_once=32), in_axes=(0, None))
  )
  for name, values in fn(every, arrays).items():
    assert np.isfinite(values).tolist() == [True, False], name


def test_parts_and_devices_change_no_log_likelihood(model, short):
  decoder, params = model
  arrays = multiple_choice.encode(short, TOKENIZERS["one or two"])
  sizes = [len(bucket["question"]) for bucket in arrays["rows"].values()]
  assert max(sizes) > 16 and any(size % 8 for size in sizes)
  mesh = testing.mesh(8)

  def nats(params, arrays):
    return multiple_choice.log_likelihoods(
      decoder.apply, params, arrays, rows_at_once=16
    )

  given = jax.device_put((params, arrays), sharding.replicated(mesh))
  actual = jax.jit(placement.on(mesh, nats))(*given)
  np.testing.assert_allclose(actual, log_likelihoods(model, short), atol=1e-5)


def test_what_a_score_rests_on_is_described(tasks):
  assert multiple_choice.describe(tasks) == {
    "wmdp_bio": {"questions": 11, "shots": 0},
    "mmlu_us_foreign_policy": {"questions": 9, "shots": 2},
    "mmlu_virology": {"questions": 9, "shots": 2},
  }


class Joined(ByteTokenizer):
  """A letter after the colon is no token of its own."""

  def encode(self, text):
    return super().encode(text.removesuffix(" C"))


def test_wrong_tasks_tokenizers_and_groups_are_refused(model, tasks):
  with pytest.raises(ConfigError, match="questions in the task empty, got none"):
    multiple_choice.encode([QuestionSet("empty", "", ())], ByteTokenizer())
  with pytest.raises(ConfigError, match="a token for the answer ' C' after 'Answer:'"):
    multiple_choice.encode(tasks, Joined())
  for own in ([], ["wmdp_bio", "wmdp_chem"]):
    with pytest.raises(ValueError, match="group forget must be of tasks"):
      multiple_choice.make_evaluate(
        model[0].apply, ["wmdp_bio"], groups={"forget": own}
      )


# ---- The harness's own task definitions, on local files.


def write_tasks(directory, tasks):
  """Write the harness's tasks anew, with only the data's place changed."""
  import lm_eval.tasks
  import yaml

  own = pathlib.Path(lm_eval.tasks.__file__).parent
  places = {"wmdp_bio": own / "wmdp" / "wmdp_bio.yaml"} | {
    f"mmlu_{s}": own / "mmlu" / "default" / f"mmlu_{s}.yaml" for s in SUBJECTS
  }
  for task in tasks:
    splits = {"test": task.questions, "dev": task.shots or task.questions}
    for split, rows in splits.items():
      lines = [json.dumps(question._asdict()) for question in rows]
      (directory / f"{task.name}_{split}.jsonl").write_text("\n".join(lines))
    changed = {
      "include": str(places[task.name]),
      "task": f"local_{task.name}",
      "dataset_path": "json",
      "dataset_name": None,
      "dataset_kwargs": {
        "data_files": {s: str(directory / f"{task.name}_{s}.jsonl") for s in splits}
      },
      "num_fewshot": len(task.shots),
    }
    (directory / f"{task.name}.yaml").write_text(yaml.safe_dump(changed))


@pytest.fixture(scope="module")
def harness_found(model, tasks, tmp_path_factory):
  """The harness's samples and accuracies by task; its own tasks, our model."""
  pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install lm_eval")
  import datasets
  import lm_eval
  from lm_eval.tasks import TaskManager

  from undo_jax.evaluation import harness

  directory = tmp_path_factory.mktemp("tasks")
  write_tasks(directory, tasks)
  decoder, params = model
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", directory / "cache")
    results = lm_eval.simple_evaluate(
      model=harness.make(decoder.config, params, TOKENIZERS["one or two"]),
      tasks=[f"local_{task.name}" for task in tasks],
      task_manager=TaskManager(include_path=str(directory), include_defaults=False),
      bootstrap_iters=0,
    )
  return results


def test_prompts_are_those_of_the_harness(harness_found, tasks):
  for task in tasks:
    samples = harness_found["samples"][f"local_{task.name}"]
    assert len(samples) == len(task.questions)
    for sample in samples:
      question = task.questions[sample["doc_id"]]
      text = questions_lib.context(task, question)
      assert sample["arguments"] == [(text, f" {letter}") for letter in "ABCD"]
      assert int(sample["target"]) == question.answer


def test_log_likelihoods_and_accuracies_are_those_of_the_harness(
  harness_found, model, tasks
):
  arrays = multiple_choice.encode(tasks, TOKENIZERS["one or two"])
  nats = score(model[0])(model[1], arrays)
  scores = jax.device_get(jax.jit(make_evaluate(model, tasks))(model[1], arrays))
  start = 0
  for task in tasks:
    samples = harness_found["samples"][f"local_{task.name}"]
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    expected = [[r[0] for r in sample["filtered_resps"]] for sample in samples]
    own = nats[start : start + len(task.questions)]
    np.testing.assert_allclose(own, expected, atol=2e-4)
    start += len(task.questions)
    accuracy = harness_found["results"][f"local_{task.name}"]["acc,none"]
    assert scores[task.name] == pytest.approx(accuracy, abs=1e-6)
  assert 0 < scores["retain"] < 1
