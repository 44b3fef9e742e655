"""Models on their way out: weights, tokenizer, adapters, members of attacks."""

import functools

import jax
import numpy as np
import pytest

from tests import minimal
from tests.chains import directory, stages_abstract
from undo_jax.checkpoints import exporting, sources
from undo_jax.data import tokenizers
from undo_jax.models import huggingface, lora, peft
from undo_jax.running.runs import run_single
from undo_jax.utils.types import ConfigError


def test_an_exported_stage_holds_weights_and_tokenizer(chain, tmp_path):
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


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("rank", [0, 2])
def test_an_exported_member_of_an_attack_scores_as_it_did(chain, tmp_path, rank):
  root, _, _ = chain
  stage = directory(root / "unlearned", "max_ent")
  name = "lora" if rank else "relearn"
  chosen = {f"attacks.{n}.run": n == name for n in ("lora", "relearn")}
  chosen["attacks.lora.options.rank"] = rank
  config = minimal.config(**chosen)
  # A model in Hugging Face's files is attacked as a stage is.
  start = stage if rank else exported(stage, tmp_path / "u", None)
  attacked = run_single("relearn", config, tmp_path / "a", checkpoint=start)
  before = attacked[f"{name}_model"]["scores"]["forget"]
  assert [row[0] for row in before] == [attacked["model"]["scores"]["forget"]] * 2
  attack = directory(tmp_path / "a", f"{name}_model")
  exporting.export(attack, tmp_path / "out", learning_rate=1e-2)
  scored = run_single(
    "evaluate", minimal.config(), tmp_path / "b", checkpoint=tmp_path / "out"
  )
  found = {k: v[1][-1] for k, v in attacked[f"{name}_model"]["scores"].items()}
  assert scored["model"]["scores"] == found
  # Relearning changed the weights, and those of the other member are others.
  unlearned, member = (
    huggingface.load(path)[1]
    for path in (
      exported(stage, tmp_path / "v", None),
      exported(attack, tmp_path / "m", 1e-3),
    )
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
  draw = functools.partial(lora.init, rank=2, targets=(".*/up/kernel",))
  adapters = jax.jit(draw)(params, jax.random.key(1))
  adapters = jax.tree.map(lambda x: np.asarray(x) + 0.1, adapters)
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
