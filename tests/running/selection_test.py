"""Selected rows as a stage, and the models that are made of them."""

import collections
import dataclasses
import types

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from tests import minimal
from tests.running.variants import take_base
from undo_jax import config as c
from undo_jax import running, testing
from undo_jax.data import row_classifier, rows
from undo_jax.frontier import labels
from undo_jax.plan import checks, lineages, stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import data, selection, sharing
from undo_jax.utils import streams
from undo_jax.utils.errors import ConfigError

LENGTH = 8
SPLITS = {"retain": 60, "english": 25, "forget": 40}


def made_up(noise, seed=0):
  """Return rows by split; forget rows hold token 7, others where `noise` says."""
  rng, splits = np.random.default_rng(seed), {}
  for split, count in SPLITS.items():
    tokens = rng.integers(0, 7, (count, LENGTH + 1)).astype(np.int32)
    has = (rng.random(count) < noise) ^ (split == "forget")
    tokens[has, 2] = 7
    splits[split] = [{"tokens": row, "mask": np.ones(LENGTH + 1)} for row in tokens]
  return splits


def stage_of(share=0.2, seed=0, **fields):
  """Return a stage that selects the made-up rows."""
  plain = {"labelled": None, "keep": None} | fields
  return stages.SelectionStage(
    name="selection_few",
    splits=tuple(SPLITS),
    forget=("forget",),
    share=share,
    length=LENGTH,
    seeds={"data": seed},
    stream="data",
    **plain,
  )


def run_of(workdir, stage):
  """Return a run of a stage, whose data are not there."""
  first = stages.DataStage(name="data", task="made_up", data={}, seeds={})
  return running.Run(
    workdir,
    testing.mesh(1),
    checkpoint_every=1,
    evaluation_rows=1,
    replicas_at_once=None,
    stages=(first, stage),
  )


@pytest.fixture
def select(tmp_path, monkeypatch):
  """Select made-up rows; return the outcome, and rows that are labelled, selected."""

  def call(stage, sources):
    task = types.SimpleNamespace(source=lambda data, directory, split: sources[split])
    monkeypatch.setattr(selection.tasks, "get", lambda name: task)
    run = run_of(tmp_path, stage)
    directory = run.directories[stage.name]
    outcome = selection.run_selection(run, stage, directory, "title")
    monkeypatch.setattr(selection, "outcome_of", lambda run, name: outcome)
    numbers = {
      kind: {split: range(count) for split, count in SPLITS.items()}
      for kind in ("labelled", "selected")
    }
    for kind, of in numbers.items():
      for split, every in of.items():
        own = selection.rows_of(run, stage.name, split, kind, every)
        of[split] = [own[i] for i in range(len(own))]
    return outcome, numbers

  return call


def test_separable_rows_are_selected_without_error(select):
  outcome, numbers = select(stage_of(), made_up(noise=0.0))
  assert outcome["precision"] == outcome["recall"] == 1
  every = {split: [*range(count)] for split, count in SPLITS.items()}
  assert numbers["selected"] == every | {"forget": []}
  assert outcome["rows"] == SPLITS
  assert outcome["selected"] == {"retain": 60, "english": 25, "forget": 0}
  assert outcome["labelled"] == {"retain": 12, "english": 5, "forget": 8}
  counts = {split: len(of) for split, of in numbers["labelled"].items()}
  assert counts == outcome["labelled"] and outcome["learned_from"] == 25
  # 17 n-grams a row, a multiplication and an addition each; forward and backward.
  passes = 125 + 2 * outcome["iterations"] * 25
  assert outcome["compute"] == {"updates": 0, "tokens": 0, "flops": 2 * 17 * passes}
  assert "85 of 125 rows selected by 25 labelled ones" in sharing.summary(outcome)


def by_hand(sources, labelled):
  """Return the log-odds of every row, by scikit-learn's own texts."""
  text = lambda row: " ".join(map(str, row["tokens"]))  # noqa: E731
  model = make_pipeline(
    CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True),
    Normalizer(),
    LogisticRegression(
      C=1 / row_classifier.PENALTY, class_weight="balanced", tol=1e-8, max_iter=5000
    ),
  )
  # All texts are counted, so that rows have the norm that their n-grams give them.
  model[0].fit([text(row) for of in sources.values() for row in of])
  known = [(split, number) for split, of in labelled.items() for number in of]
  counts = model[0].transform([text(sources[split][i]) for split, i in known])
  model[2].fit(model[1].transform(counts), [split != "forget" for split, _ in known])
  return {
    split: model.decision_function([text(row) for row in of])
    for split, of in sources.items()
  }


@pytest.mark.parametrize("keep", [None, 0.4])
def test_the_choice_is_that_of_brute_force(select, keep):
  sources = made_up(noise=0.15)
  outcome, numbers = select(stage_of(keep=keep), sources)
  labelled = numbers["labelled"]
  odds = by_hand(sources, labelled)
  every = [value for of in odds.values() for value in of]
  if keep is not None:
    assert sum(value >= outcome["threshold"] for value in every) == 50  # Of 125.
  expected = {
    split: [
      i
      for i, value in enumerate(of)
      if (split != "forget" if i in labelled[split] else value >= outcome["threshold"])
    ]
    for split, of in odds.items()
  }
  assert numbers["selected"] == expected
  clean = len(expected["retain"]) + len(expected["english"])
  wrong = len(expected["forget"])
  assert wrong > 0 and clean < 85
  assert outcome["precision"] == clean / (clean + wrong)
  assert outcome["recall"] == clean / 85


def test_equal_seeds_give_equal_choices_and_others_label_others(select):
  sources = made_up(noise=0.15)
  first = select(stage_of(), sources)
  assert select(stage_of(), sources) == first
  assert select(stage_of(seed=1), sources)[1]["labelled"] != first[1]["labelled"]
  # What fewer labels show is among what more do.
  fewer = select(stage_of(share=0.1), sources)[1]["labelled"]
  for split, of in first[1]["labelled"].items():
    assert {*fewer[split]} < {*of}


@pytest.mark.parametrize(
  "fields, labelled",
  [
    ({"share": 1e-6}, (1, 1, 1)),
    ({"share": None, "labelled": 2}, (1, 1, 1)),
    ({"share": None, "labelled": 50}, (24, 10, 16)),
    ({"share": 1.0}, (60, 25, 40)),
  ],
)
def test_what_is_labelled_is_recorded_one_row_at_least(select, fields, labelled):
  outcome, numbers = select(stage_of(**fields), made_up(noise=0.15))
  assert tuple(outcome["labelled"].values()) == labelled
  if fields["share"] == 1:
    assert outcome["precision"] == outcome["recall"] == 1


def test_more_labels_than_memory_holds_are_not_all_learned_from(select, monkeypatch):
  monkeypatch.setattr(row_classifier, "MOST_TOKENS", 9 * 30)
  monkeypatch.setattr(selection, "CHUNK_TOKENS", 9 * 7)
  outcome, _ = select(stage_of(share=1.0), made_up(noise=0.15))
  assert outcome["learned_from"] == 14 + 6 + 9  # 30 of 125, rounded down.
  assert tuple(outcome["labelled"].values()) == (60, 25, 40)


def test_more_labels_than_rows_are_refused(select):
  with pytest.raises(ConfigError, match="at most 125 labelled rows.* got 126; lower"):
    select(stage_of(share=None, labelled=126), made_up(noise=0.15))


def test_a_damaged_file_is_named(select, tmp_path):
  stage = stage_of()
  select(stage, made_up(noise=0.0))
  run = run_of(tmp_path, stage)
  path = run.directories[stage.name] / "retain.selected.npy"
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(ConfigError, match="retain.selected.npy is damaged, expected the"):
    selection.rows_of(run, stage.name, "retain", "selected", range(60))


# ---- Models.

KEEP = 0.7  # Of 128 rows: more than there are retain rows.
NAMES = ("clean_alpha_0.6", "masked_alpha_0.6", "filtered", "unlearned")


def models_run(workdir, base):
  """Return a run, not yet run, of models that read what a selection leaves."""
  config = minimal.config()
  config.selections.few = c.selection(rows=6, keep=KEEP)
  mixtures, models = config.mixtures, config.models
  mixtures.selected = c.selected("few", mixtures.pretrain)
  mixtures.labelled_forget = c.labelled("few", mixtures.unlearn_forget)
  mixtures.labelled_retain = c.labelled("few", mixtures.unlearn_retain)
  how = {"optimizer": models.base.optimizer, "batch_size": 16}  # One program.
  models.clean = c.noised_finetune(alphas=(0.6,), mixture="selected", **how)
  models.masked = c.undo(teacher="base", alphas=(0.6,), mixture="selected", **how)
  models.filtered = c.data_filtering(models.base, mixture="selected")
  known = {"forget": "labelled_forget", "retain": "labelled_retain"}
  models.unlearned = c.like(models.max_ent, mixture=known)
  declared, mesh = parse(config), testing.mesh(1)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=100,
    evaluation_rows=24,
    replicas_at_once=None,
    stages=tuple(lineages.needed(plan, NAMES)),
  )
  take_base(run, base)
  return run


@pytest.fixture(scope="module")
def finished(chain, tmp_path_factory):
  """The run, and what came of the selection and of one model."""
  run = models_run(tmp_path_factory.mktemp("selected"), chain[1])
  made = lineages.needed(run.stages, ["selection_few", NAMES[0]])
  return run, running.run_stages(dataclasses.replace(run, stages=tuple(made)))


def test_all_models_read_one_selection_whose_labels_they_pay_once(finished):
  run, outcomes = finished
  names = [stage.name for stage in run.stages]
  assert names.count("selection_few") == 1 and {*NAMES} < {*names}
  chosen = outcomes["selection_few"]
  assert chosen["labelled"] == {"retain": 3, "forget": 3}
  assert chosen["precision"] < 1
  assert outcomes[NAMES[0]]["updates"] == 3
  pretraining = outcomes["base"]["compute"]["tokens"]
  of_all = {name: outcomes[NAMES[0]] for name in NAMES} | outcomes
  for name in NAMES:
    budget = labels.budget(run.stages, of_all, name, base="base")
    assert budget.tokens == {"forget": 48, "retain": 48}  # Rows of 16 tokens.
    assert budget.share_of_pretraining == 96 / pretraining
    (selected,) = budget.selected
    assert (
      selected.rows == {"forget": 3, "retain": 3} and selected.tokens == budget.tokens
    )
    assert selected.precision == chosen["precision"]
    assert selected.recall == chosen["recall"]


def stage_named(run, name):
  (stage,) = (s for s in run.stages if s.name == name)
  return stage


def tokens_of(run, split):
  """Return the rows of a split, as tuples of what a model reads."""
  source = rows.source(run.directories["data"] / "rows", length=16, split=split)
  return [tuple(source[i]["tokens"][:-1].tolist()) for i in range(len(source))]


def numbers_of(run, split, kind):
  path = run.directories["selection_few"] / f"{split}.{kind}.npy"
  return np.load(path).tolist()


@pytest.mark.parametrize("name", ["clean_alpha_0.6", "masked_alpha_0.6", "filtered"])
def test_the_rows_of_a_mixture_are_those_that_were_selected(finished, name):
  run, outcomes = finished
  kept = outcomes["selection_few"]["selected"]
  assert kept["forget"] > 10 and kept["retain"] < 64
  batches = data.batches_of(run, stage_named(run, name))
  # Each selected row comes once before one comes again: 64 of 64 + 64 rows are equally
  # many, so that the stream holds each as often.
  total = sum(kept.values())
  read = collections.Counter(
    tuple(row) for i in range(-(-total // 16)) for row in batches[i]["inputs"].tolist()
  )
  selected = collections.Counter[tuple[int, ...]]()
  for split in ("retain", "forget"):
    every = tokens_of(run, split)
    selected.update(every[number] for number in numbers_of(run, split, "selected"))
  # The last batch goes beyond the first round, and mixing rounds by a row.
  more, fewer = read - selected, selected - read
  assert sum(more.values()) <= 16 + 2 and sum(fewer.values()) <= 2
  assert {*read} <= {*selected}


def test_unlearning_reads_the_rows_that_are_labelled_and_no_others(finished):
  run, _ = finished
  batches = data.batches_of(run, stage_named(run, "unlearned"))
  for part in ("forget", "retain"):
    numbers, every = numbers_of(run, part, "labelled"), tokens_of(run, part)
    known = {every[number] for number in numbers}
    read = {tuple(row) for i in (0, 1) for row in batches[i][part]["inputs"].tolist()}
    assert read == known and len(numbers) == 3
    root = streams.integer(0, f"labels of {part}")
    order = np.random.default_rng(root).permutation(64)
    assert numbers == order[:3].tolist()


def test_a_mixture_of_which_nothing_was_selected_is_refused(finished, monkeypatch):
  run, outcomes = finished
  none = outcomes["selection_few"] | {"selected": {"retain": 0, "forget": 0}}
  monkeypatch.setattr(selection, "outcome_of", lambda run, name: none)
  with pytest.raises(ConfigError, match="selection_few has taken no row; label more"):
    data.batches_of(run, stage_named(run, "filtered"))
