"""Single stages: alone, from a stage of ours, from Hugging Face's files, and out."""

import json
import shutil

import jax
import numpy as np
import pytest

from tests import minimal
from undo_jax.checkpoints import cards, exporting, sources
from undo_jax.data import tokenizers
from undo_jax.models import huggingface, lora, peft
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import runs
from undo_jax.running.runs import run_single
from undo_jax.training.checkpointing import load_params
from undo_jax.utils.types import ConfigError


def model_of(**changes):
  return parse(minimal.config(**changes)).model


def directory(workdir, name):
  (found,) = (workdir / "stages").glob(f"{name}-*")
  return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """base in one workdir; unlearned from its directory in another."""
  root = tmp_path_factory.mktemp("chain")
  run_single("pretrain", minimal.config(), root / "base", models=["base"])
  base = directory(root / "base", "base")
  outcomes = run_single(
    "unlearn", minimal.config(), root / "unlearned", checkpoint=base, models=["max_ent"]
  )
  return root, base, outcomes


def test_a_stage_alone_is_a_part_of_the_whole_run(chain):
  root, base, _ = chain
  assert sorted(p.name.rsplit("-")[0] for p in (root / "base/stages").iterdir()) == [
    "base",
    "data",
  ]
  plan = translation.plan(parse(minimal.config()), 0)
  assert base.name == f"base-{stages.identities(plan)['base']}"


def test_a_given_model_is_scored_and_goes_on_as_the_trained_one(chain):
  root, base, outcomes = chain
  # The same weights have the same scores ...
  trained = json.loads((base / "done.json").read_text())
  assert outcomes["base"]["scores"] == trained["scores"]
  assert outcomes["base"]["compute"] == {"updates": 0, "tokens": 0, "flops": 0}
  # ... which evaluate only reads in the run that trained them ...
  read = run_single("evaluate", minimal.config(), root / "base", models=["base"])
  assert read["base"] == trained
  # ... and unlearn to the same model as within one run.
  within = run_single("unlearn", minimal.config(), root / "base", models=["max_ent"])
  assert within["max_ent"] == outcomes["max_ent"]


def test_stages_run_from_hugging_face_files_as_from_ours(chain, tmp_path):
  root, _, _ = chain
  ours = directory(root / "unlearned", "max_ent")
  source = sources.open_source(ours, model_of())
  abstract = stages_abstract(source)
  huggingface.save(tmp_path / "hf", source.model, sources.load(source, abstract))
  # The converted model is made robust and attacked.
  made = run_single(
    "distill", minimal.config(), tmp_path / "a", checkpoint=tmp_path / "hf"
  )
  same = run_single("distill", minimal.config(), tmp_path / "b", checkpoint=ours)
  assert set(made) == {"data", "max_ent", "unlearn_and_distill", "undo_alpha_0.5"}
  assert made == same
  for name in ("unlearn_and_distill", "undo_alpha_0.5"):
    first, second = (
      load_params(directory(tmp_path / part, name) / "checkpoints", abstract)
      for part in "ab"
    )
    np.testing.assert_array_equal(first["embedding"], second["embedding"])
  attacked = run_single(
    "relearn", minimal.config(), tmp_path / "c", checkpoint=tmp_path / "hf"
  )
  assert list(attacked) == ["data", "model", "relearn_model"]
  before = [row[0] for row in attacked["relearn_model"]["scores"]["forget"]]
  assert before == [attacked["model"]["scores"]["forget"]] * 2


def stages_abstract(source):
  from undo_jax import testing
  from undo_jax.running import programs

  return programs.abstract_params(source.model, testing.mesh(1))


def test_pretraining_goes_on_from_a_checkpoint(chain, tmp_path):
  _, base, _ = chain
  first = run_single(
    "pretrain", minimal.config(), tmp_path, checkpoint=base, models=["data_filtering"]
  )
  assert list(first) == ["data", "model", "data_filtering"]
  # Nothing is left to do the second time.
  again = run_single(
    "pretrain", minimal.config(), tmp_path, checkpoint=base, models=["data_filtering"]
  )
  assert again == first


def test_another_checkpoint_is_another_identity(chain, tmp_path):
  _, base, _ = chain
  moved = shutil.copytree(base, tmp_path / "moved")
  how = model_of()
  fingerprint = sources.open_source(base, how).fingerprint
  assert sources.open_source(moved, how).fingerprint == fingerprint
  files = [p for p in (moved / "checkpoints").rglob("*") if p.is_file()]
  file = max(files, key=lambda p: p.stat().st_size)
  file.write_bytes(file.read_bytes() + b" ")
  other = sources.open_source(moved, how).fingerprint
  assert other != fingerprint
  config = parse(runs.put_checkpoint(minimal.config(), "relearn", "somewhere"))
  first, second = (
    stages.identities(translation.plan(config, 0, {"model": each}))
    for each in (fingerprint, other)
  )
  assert first["data"] == second["data"]
  assert first["relearn_model"] != second["relearn_model"]


def test_a_given_model_that_has_changed_since_is_refused(chain, tmp_path):
  _, base, _ = chain
  moved = shutil.copytree(base, tmp_path / "moved")
  run_single("evaluate", minimal.config(), tmp_path / "run", checkpoint=moved)
  given = directory(tmp_path / "run", "model")
  assert sources.open_source(given).path == moved
  config = moved / "config.json"
  config.write_text(config.read_text() + "\n")
  with pytest.raises(ConfigError, match="its content has changed"):
    sources.open_source(given)


def test_the_run_decides_how_a_given_model_is_computed(chain):
  _, base, _ = chain
  source = sources.open_source(base, model_of(model__remat="full"))
  assert (source.model.remat, source.model.width) == ("full", 16)


def test_a_stage_is_found_by_its_name(chain, tmp_path):
  _, base, _ = chain
  assert sources.find(base.parent / "base") == base
  assert sources.find(base) == base
  shutil.copytree(base, tmp_path / "base-0123456789ab")
  shutil.copytree(base, tmp_path / "base-0123456789ac")
  with pytest.raises(ConfigError, match="any of base-0123456789ab, base-0123456789ac"):
    sources.find(tmp_path / "base")


def test_what_is_no_model_is_refused(chain, tmp_path):
  _, base, _ = chain
  how = model_of()
  with pytest.raises(ConfigError, match="--checkpoint must be a directory"):
    sources.open_source(tmp_path / "nothing", how)
  with pytest.raises(ConfigError, match=r"no checkpoint directory.*no config\.json"):
    sources.open_source(tmp_path, how)
  (data,) = base.parent.glob("data-*")
  with pytest.raises(ConfigError, match="kind 'data', which holds no single model"):
    sources.open_source(data, how)
  unfinished = shutil.copytree(base, tmp_path / "unfinished")
  (unfinished / "done.json").unlink()
  with pytest.raises(ConfigError, match="is not finished"):
    sources.open_source(unfinished, how)


def test_wrong_requests_are_one_clear_line(chain, tmp_path):
  _, base, _ = chain
  with pytest.raises(ConfigError, match="'nothing' is none of data, base"):
    run_single("pretrain", minimal.config(), tmp_path, models=["nothing"])
  config = minimal.config(data__tokenizer="bytes")
  with pytest.raises(ConfigError, match="vocab_size: expected at least 259"):
    run_single("evaluate", config, tmp_path, checkpoint=base)
  config = minimal.config(models__rmu__start="max_ent")
  with pytest.raises(ConfigError, match="starts from base, max_ent; give it as"):
    run_single("unlearn", config, tmp_path, checkpoint=base)
  assert list(tmp_path.iterdir()) == []


# ---- Export.


def test_an_exported_stage_holds_weights_tokenizer_and_card(chain, tmp_path):
  root, base, _ = chain
  stage = directory(root / "unlearned", "max_ent")
  exporting.export(stage, tmp_path / "out")
  source = sources.open_source(stage)
  config, params = huggingface.load(tmp_path / "out")
  assert config == huggingface.read_config(tmp_path / "out")
  expected = sources.load(source, stages_abstract(source))
  for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(got, want)
  ours = tokenizers.make("characters:arithmetic")
  theirs = tokenizers.make(f"huggingface:{tmp_path / 'out'}")
  text = "12 + 3 = 15. 7*8=56"
  assert theirs.encode(text) == ours.encode(text)
  assert (theirs.eos_id, theirs.bos_id) == (ours.eos_id, ours.bos_id)
  settings = huggingface.read_settings(tmp_path / "out")
  assert [settings[f"{r}_token_id"] for r in ("pad", "eos", "bos")] == [0, 1, 2]
  card = (tmp_path / "out" / "README.md").read_text()
  done = json.loads((stage / "done.json").read_text())
  retain, forget = done["scores"]["retain"], done["scores"]["forget"]
  flops = f"{done['compute']['flops']:.3g}"
  assert (
    f"| max_ent | max_ent on forget, retain data | 2 | {retain:.3f} | {forget:.3f} "
    f"| {flops} |"
  ) in card
  # The base came from another run, whose history is a part of this one.
  base_done = json.loads((base / "done.json").read_text())
  tokens = base_done["compute"]["tokens"] + done["compute"]["tokens"]
  assert f"In all 5 updates on {tokens:,} tokens" in card
  assert "Base model: none, base was trained from random weights." in card
  assert "| base | cross_entropy on forget, retain data | 3 |" in card
  assert "seeds of base: data 0, init 0" in card
  assert "num_equations 64" in card
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
  unknown = cards.render("x", [given], source.model)
  assert f"Base model: {base.name} (content {fingerprint})." in unknown


@pytest.mark.parametrize("rank", [0, 2])
def test_an_exported_member_of_an_attack_scores_as_it_did(chain, tmp_path, rank):
  root, _, _ = chain
  stage = directory(root / "unlearned", "max_ent")
  name = "lora" if rank else "relearn"
  chosen = {f"attacks.{n}.run": n == name for n in ("lora", "relearn")}
  chosen["attacks.lora.options.rank"] = rank
  config = minimal.config(**chosen)
  attacked = run_single("relearn", config, tmp_path / "a", checkpoint=stage)
  attack = directory(tmp_path / "a", f"{name}_model")
  exporting.export(attack, tmp_path / "out", learning_rate=1e-2)
  scored = run_single(
    "evaluate", minimal.config(), tmp_path / "b", checkpoint=tmp_path / "out"
  )
  found = {k: v[1][-1] for k, v in attacked[f"{name}_model"]["scores"].items()}
  assert scored["model"]["scores"] == found
  # Relearning changed the weights, and those of the other member are others.
  unlearned, member = (
    huggingface.load(exported(path, tmp_path / name, rate))[1]
    for path, name, rate in ((stage, "u", None), (attack, "m", 1e-3))
  )
  relearned = huggingface.load(tmp_path / "out")[1]
  kernels = [p["layers"]["mlp"]["up"]["kernel"] for p in (unlearned, member, relearned)]
  assert not np.array_equal(kernels[0], kernels[1])
  assert not np.array_equal(kernels[1], kernels[2])
  if rank:  # Its adapters alone, merged by another way, are the same model.
    exporting.export_adapter(attack, tmp_path / "adapter", learning_rate=1e-2)
    exporting.export(stage, tmp_path / "merged", adapter=tmp_path / "adapter")
    merged = huggingface.load(tmp_path / "merged")[1]
    np.testing.assert_array_equal(merged["layers"]["mlp"]["up"]["kernel"], kernels[2])
  else:
    with pytest.raises(ConfigError, match="only an attack whose adversary is lora"):
      exporting.export_adapter(attack, tmp_path / "adapter", learning_rate=1e-2)
  # LoRA leaves the embedding alone, finetuning does not.
  same = np.array_equal(unlearned["embedding"], relearned["embedding"])
  assert same is (rank > 0)


def exported(checkpoint, output, learning_rate):
  exporting.export(checkpoint, output, learning_rate=learning_rate)
  return output


def test_adapters_are_merged_on_export(chain, tmp_path):
  root, _, _ = chain
  stage = directory(root / "unlearned", "max_ent")
  source = sources.open_source(stage)
  params = sources.load(source, stages_abstract(source))
  adapters = lora.init(params, jax.random.key(1), rank=2, targets=(".*/up/kernel",))
  adapters = jax.tree.map(lambda x: x + 0.1, adapters)
  peft.save(tmp_path / "adapter", source.model, adapters, alpha=3.0)
  exporting.export(stage, tmp_path / "out", adapter=tmp_path / "adapter")
  _, merged = huggingface.load(tmp_path / "out")
  pair = adapters["layers"]["mlp"]["up"]["kernel"]
  up = params["layers"]["mlp"]["up"]["kernel"]
  expected = np.asarray(up, np.float64) + 1.5 * np.asarray(pair["a"], np.float64) @ (
    np.asarray(pair["b"], np.float64)
  )
  got = merged["layers"]["mlp"]["up"]["kernel"]
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(merged["embedding"], params["embedding"])


def test_wrong_exports_are_one_clear_line_and_leave_nothing(chain, tmp_path):
  root, _, _ = chain
  stage = directory(root / "unlearned", "max_ent")
  with pytest.raises(ConfigError, match="chooses a member of an attack"):
    exporting.export(stage, tmp_path / "out", learning_rate=1e-3)
  with pytest.raises(ConfigError, match="has 259 ids and the model only 32"):
    exporting.export(stage, tmp_path / "out", tokenizer="bytes")
  assert list(tmp_path.iterdir()) == []
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "file").write_text("")
  with pytest.raises(ConfigError, match="exists already and is not overwritten"):
    exporting.export(stage, tmp_path / "out")
