"""Model cards: what they tell of a history that spans runs."""

import dataclasses
import json
import shutil

import pytest
import yaml

from tests import minimal
from tests.chains import directory, model_of
from undo_jax import config as builders
from undo_jax.checkpoints import cards, exporting
from undo_jax.plan import lineages, stages, translation
from undo_jax.plan.config import parse
from undo_jax.running.runs import run_single
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


@pytest.mark.usefixtures("one_device")
def test_a_card_tells_the_stages_of_all_runs_that_led_to_a_model(chain, tmp_path):
  root, base, _ = chain
  stage = directory(root / "unlearned", "max_ent")
  exporting.export(stage, tmp_path / "out")
  card = (tmp_path / "out" / "README.md").read_text()
  done = json.loads((stage / "done.json").read_text())
  retain, forget = done["scores"]["retain"], done["scores"]["forget"]
  flops = f"{done['compute']['flops']:.3g}"
  cells = [
    [cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines()
  ]
  unlearned = ["max_ent", "max_ent on forget, retain data", "2"]
  assert [*unlearned, f"{retain:.3f}", f"{forget:.3f}", flops] in cells
  # The base came from another run, whose history is a part of this one.
  base_done = json.loads((base / "done.json").read_text())
  tokens = base_done["compute"]["tokens"] + done["compute"]["tokens"]
  assert f"In all 5 updates on {tokens:,} tokens" in card
  assert "Base model: none, base was trained from random weights." in card
  assert ["base", "cross_entropy on forget, retain data", "3"] in [c[:3] for c in cells]
  assert "seeds of base: data 0, init 0" in card
  assert "num_equations 64" in card
  head = yaml.safe_load(card.split("---")[1])
  assert head["library_name"] == "transformers" and head["datasets"] == ["arithmetic"]
  assert head["base_model"] == base.name and "license" not in head
  assert "seeds of max_ent: data 0" in card
  # Exported once more, and by way of another run, it still knows where it is from.
  exporting.export(tmp_path / "out", tmp_path / "again")
  assert (tmp_path / "again" / "README.md").read_text() == card.replace(
    "# out", "# again"
  )
  evaluated = tmp_path / "run"
  run_single("evaluate", minimal.config(), evaluated, checkpoint=tmp_path / "again")
  entries = cards.history(directory(evaluated, "model"))
  names = [entry.stage.name for entry in entries]
  assert names == ["data", "data", "base", "base", "max_ent", "model"]
  assert str(root) not in (tmp_path / "out" / cards.FILE).read_text()
  # A model that nobody knows is named by its content.
  (given,) = (e for e in entries if e.stage.name == "base" and e.path)
  fingerprint = given.stage.fingerprint
  unknown = cards.render("x", [given], model_of())
  assert f"Base model: {base.name} (content {fingerprint})." in unknown


def test_a_card_tells_of_squared_gradients_and_of_the_noise_that_they_shape():
  config = minimal.config()
  noise = {"again_every": 2}
  config.models.shaped = builders.shaped(config.models.undo, shares=(0.5,), noise=noise)
  plan = translation.plan(parse(config), 0)
  made = lineages.needed(plan, ["shaped_share_0.5"])
  outcome = {
    "scores": {"retain": 0.5, "forget": 0.25},
    "updates": 3,
    "batches": 150,
    "compute": {"updates": 3, "tokens": 10, "flops": 2000},
  }
  entries = [cards.Entry(stage, outcome, None) for stage in made]
  card = cards.render("x", entries, model_of())
  what = "squared gradients of base, 150 batches a part"
  cells = [[c.strip() for c in line.split("|")[1:-1]] for line in card.splitlines()]
  assert ["saliency_base", what, "", "", "", "2e+03"] in cells
  expected = (
    "forward_kl on forget, retain data, after noise of alpha 1, beta 0.1, of weights "
    "chosen by saliency, and 1 times more in training"
  )
  assert expected in [row[1] for row in cells if len(row) == 6]
  assert "seeds of saliency_base: distill_data 0" in card


def test_a_card_tells_by_how_many_labels_rows_were_selected():
  config = minimal.config()
  config.selections.few = builders.selection(rows=4)
  config.mixtures.selected = builders.selected("few", config.mixtures.pretrain)
  config.models.base.mixture.batch = "selected"
  made = lineages.needed(translation.plan(parse(config), 0), ["base"])
  outcome = {
    "scores": {"retain": 0.5, "forget": 0.25},
    "updates": 3,
    "labelled": {"retain": 3, "forget": 1},
    "precision": 0.91,
    "recall": 0.82,
    "compute": {"updates": 3, "tokens": 10, "flops": 2000},
  }
  entries = [cards.Entry(stage, outcome, None) for stage in made]
  card = cards.render("x", entries, model_of())
  cells = [[c.strip() for c in line.split("|")[1:-1]] for line in card.splitlines()]
  what = "rows selected by 4 labelled ones, precision 0.910, recall 0.820"
  assert ["selection_few", what, "", "", "", "2e+03"] in cells
  assert "none, base was trained from random weights" in card
  assert "seeds of selection_few: data 0" in card


HISTORIES = [
  lambda content: content.pop("history"),
  lambda content: content.update(history=[1]),
  lambda content: content["history"][0].pop("stage"),
  lambda content: content["history"][0]["stage"].update(kind=[]),
  lambda content: content["history"][-1].update(outcome={}),
  lambda content: content["history"][-1]["outcome"]["compute"].update(flops="1"),
  lambda content: content["history"][-1]["outcome"]["scores"].update(retain="<b>"),
  lambda content: content.update(history=content["history"][:1]),
]


@pytest.mark.parametrize("change", HISTORIES)
def test_a_history_that_is_none_is_named(chain, tmp_path, change):
  """It lies in a directory of Hugging Face's files, which others may have written."""
  cards.save(tmp_path, cards.history(directory(chain[0] / "unlearned", "max_ent")))
  path = tmp_path / cards.FILE
  content = json.loads(path.read_text())
  assert len(cards.history(tmp_path)) == len(content["history"])
  change(content)
  path.write_text(json.dumps(content))
  with pytest.raises(ConfigError, match=cards.FILE) as error:
    cards.history(tmp_path)
  assert "\n" not in str(error.value)


def test_no_code_is_run_because_a_history_names_it(tmp_path, monkeypatch):
  (tmp_path / "their_attack.py").write_text("raise SystemExit('ran')")
  monkeypatch.syspath_prepend(tmp_path)
  plan = translation.plan(parse(minimal.config()), 0)
  attack = next(stage for stage in plan if isinstance(stage, stages.AttackStage))
  attack = dataclasses.replace(attack, adversary="their_attack:ATTACK")
  card = cards.render("x", [cards.Entry(attack, {})], model_of())
  assert "relearning of what `their_attack:ATTACK` trains on forget data" in card


def test_a_stage_that_led_to_itself_is_named(chain, tmp_path):
  stage = directory(chain[0] / "base", "base")
  copied = shutil.copytree(stage, tmp_path / stage.name)
  content = files.read_record(copied / "config.json")
  content["input_directories"] = {"model": stage.name, "data": stage.name}
  files.write_record(copied / "config.json", content)
  with pytest.raises(ConfigError, match="led to itself"):
    cards.history(copied)
