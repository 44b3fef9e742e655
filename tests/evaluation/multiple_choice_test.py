"""Multiple choice against lm_eval's own tasks, and against one pass a choice."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.data import questions as questions_lib
from undo_jax.data.questions import Question, QuestionSet
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.distributed import sharding
from undo_jax.evaluation import multiple_choice
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

LONGEST = 512  # More bytes than any prompt here has.
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
  """Draws questions with texts of very different lengths."""
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
  asked = [q for s in SUBJECTS for q in draw(rng, 9, s)]
  shown = [q for s in SUBJECTS for q in draw(rng, 3, s)]
  wmdp = questions_lib.wmdp_task("wmdp_bio", draw(rng, 11, ""))
  return [wmdp, *questions_lib.mmlu_tasks(asked, shown, num_shots=2)]


@pytest.fixture(scope="module")
def model():
  """A model of large weights, so that its choices are far apart."""
  made = Decoder(testing.config(vocab_size=264, width=32, init_std=0.4))
  return made, jax.jit(made.init)(jax.random.key(0))


GROUPS = {"forget": ["wmdp_bio"], "retain": [f"mmlu_{s}" for s in SUBJECTS]}


def evaluate(
  model, tasks, tokenizer=TOKENIZERS["one or two"], *, arrays=None, **kwargs
):
  decoder, params = model
  names = [task.name for task in tasks]
  fn = multiple_choice.make_evaluate(decoder.apply, names, groups=GROUPS, **kwargs)
  arrays = arrays or multiple_choice.encode(tasks, tokenizer)
  return {k: float(v) for k, v in jax.jit(fn)(params, arrays).items()}


@functools.cache
def score(decoder):
  return jax.jit(functools.partial(multiple_choice.log_likelihoods, decoder.apply))


@functools.cache
def forward(decoder):
  return jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)


def by_definition(model, task, question, tokenizer):
  """Returns log p of each letter: a pass for each choice, softmax in float64."""
  text = questions_lib.context(task, question)
  given = [2, *tokenizer.encode(text)]
  found = []
  for choice in question.choices if task.is_cloze else "ABCD":
    whole = [2, *tokenizer.encode(f"{text} {choice}")]
    tokens = np.full((1, LONGEST), 7)  # What follows a token does not matter to it.
    tokens[0, : len(whole)] = whole
    logits = np.asarray(forward(model[0])(model[1], tokens)[0], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = range(len(given), len(whole))
    found.append(sum(log_p[place - 1, whole[place]] for place in places))
  return found


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_log_likelihoods_are_those_of_one_pass_a_choice(model, tasks, tokenizer):
  decoder, params = model
  shown = tasks[0].questions[8:9]
  cloze = QuestionSet("cloze", "", tasks[0].questions[:5], shown, is_cloze=True)
  tasks = [tasks[0], questions_lib.limited(tasks[1], 3), cloze]
  arrays = multiple_choice.encode(tasks, tokenizer)
  assert len(arrays["rows"]) > 1, "questions must differ in length"
  found = jax.jit(
    lambda p, a: multiple_choice.log_likelihoods(decoder.apply, p, a, rows_at_once=3)
  )(params, arrays)
  expected = [
    by_definition(model, task, question, tokenizer)
    for task in tasks
    for question in task.questions
  ]
  np.testing.assert_allclose(found, expected, atol=2e-4)
  assert len(set(np.argmax(expected, axis=1))) > 1, "else every model does"


def test_choices_read_alike_share_a_row(tasks):
  count = sum(len(task.questions) for task in tasks)
  for tokenizer, rows in zip(TOKENIZERS.values(), (count, 2 * count), strict=True):
    arrays = multiple_choice.encode(tasks, tokenizer)
    assert sum(len(b["question"]) for b in arrays["rows"].values()) == rows
  for length, bucket in arrays["rows"].items():
    assert bucket["inputs"].shape[1] == int(length)
    assert bucket["inputs"].size < 2 * (bucket["inputs"] != 0).sum() + 9 * len(bucket)


def test_scores_are_accuracies_and_groups_count_each_question_alike(model, tasks):
  tasks = [questions_lib.limited(t, n) for t, n in zip(tasks, (7, 9, 2), strict=True)]
  tokenizer = TOKENIZERS["one or two"]
  arrays = multiple_choice.encode(tasks, tokenizer)
  nats = score(model[0])(model[1], arrays)
  answers = [question.answer for task in tasks for question in task.questions]
  hits = np.equal(np.argmax(nats, axis=1), answers)
  scores = evaluate(model, tasks)
  expected = {
    "wmdp_bio": hits[:7].mean(),
    "mmlu_us_foreign_policy": hits[7:16].mean(),
    "mmlu_virology": hits[16:].mean(),
    "forget": hits[:7].mean(),
    "retain": hits[7:].mean(),
  }
  assert scores == pytest.approx(expected, rel=1e-6)
  assert 0 < scores["retain"] < 1
  assert expected["retain"] != pytest.approx(
    (expected["mmlu_us_foreign_policy"] + expected["mmlu_virology"]) / 2
  ), "else weighting by size is not seen"


def test_the_first_of_equal_choices_counts(tasks):
  model = Decoder(testing.config(vocab_size=264))
  params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0)))
  answers = [question.answer for question in tasks[0].questions]
  fn = multiple_choice.make_evaluate(model.apply, ["wmdp_bio"], groups={})
  scores = jax.jit(fn)(params, multiple_choice.encode(tasks[:1], ByteTokenizer()))
  assert scores["wmdp_bio"] == pytest.approx(np.mean(np.equal(answers, 0)))


def test_parts_and_devices_change_no_log_likelihood(model, tasks):
  decoder, params = model
  score = jax.jit(
    lambda arrays, num: multiple_choice.log_likelihoods(
      decoder.apply, params, arrays, rows_at_once=num
    ),
    static_argnums=1,
  )
  arrays = multiple_choice.encode(tasks[:1], ByteTokenizer())
  expected = score(arrays, 100)
  np.testing.assert_allclose(score(arrays, 4), expected, atol=1e-5)
  arrays = multiple_choice.encode(tasks[:1], ByteTokenizer(), multiple=8)
  where = sharding.batch_sharding(testing.mesh(8))
  arrays = jax.tree.map(lambda x: jax.device_put(x, where), arrays)
  assert all(len(x) % 8 == 0 for x in jax.tree.leaves(arrays))
  np.testing.assert_allclose(score(arrays, 8)[: len(expected)], expected, atol=1e-5)


def test_questions_that_fill_an_axis_up_are_not_counted(model, tasks):
  decoder, params = model
  asked = tasks[0].questions
  halves = [QuestionSet("one", "", asked[:5]), QuestionSet("two", "", asked[5:])]
  fn = multiple_choice.make_evaluate(decoder.apply, ["one", "two"], groups={})
  found, expected = (
    jax.jit(fn)(params, multiple_choice.encode(halves, ByteTokenizer(), multiple=m))
    for m in (8, 1)
  )
  assert found == expected


def test_a_population_is_scored_in_one_program(model, tasks):
  decoder, params = model
  fn = multiple_choice.make_evaluate(
    decoder.apply, ["wmdp_bio"], groups={"forget": ["wmdp_bio"]}, rows_at_once=8
  )
  arrays = multiple_choice.encode(tasks[:1], ByteTokenizer())
  other = jax.jit(decoder.init)(jax.random.key(1))
  both = jax.tree.map(lambda *x: jnp.stack(x), params, other)
  together = jax.jit(jax.vmap(fn, in_axes=(0, None)))(both, arrays)
  alone = [jax.jit(fn)(tree, arrays) for tree in (params, other)]
  for name, values in together.items():
    np.testing.assert_allclose(values, [scores[name] for scores in alone])


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
  """Writes the harness's tasks anew, with only the data's place changed."""
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
    found = lm_eval.simple_evaluate(
      model=harness.make(decoder.config, params, TOKENIZERS["one or two"]),
      tasks=[f"local_{task.name}" for task in tasks],
      task_manager=TaskManager(include_path=str(directory), include_defaults=False),
      bootstrap_iters=0,
    )
  return found


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
  scores = evaluate(model, tasks)
  start = 0
  for task in tasks:
    samples = harness_found["samples"][f"local_{task.name}"]
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    expected = [[r[0] for r in sample["filtered_resps"]] for sample in samples]
    own = nats[start : start + len(task.questions)]
    np.testing.assert_allclose(own, expected, atol=2e-4)
    start += len(task.questions)
    found = harness_found["results"][f"local_{task.name}"]["acc,none"]
    assert scores[task.name] == pytest.approx(found, abs=1e-6)
  assert 0 < scores["retain"] < 1
