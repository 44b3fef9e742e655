"""Models on their way out: weights, tokenizer, adapters, members of attacks."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests import minimal
from tests.chains import directory, stages_abstract
from tests.models import huggingface_references as references
from undo_jax import testing
from undo_jax.checkpoints import exporting, sources
from undo_jax.data import tokenizers
from undo_jax.models import huggingface, lora, peft
from undo_jax.models.decoder import Decoder
from undo_jax.models.generation import make_generate
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
def test_a_pipeline_of_transformers_writes_what_the_decoder_does(tmp_path):
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  name, text = "characters:arithmetic", "12 + 3 = "
  tokenizer = tokenizers.make(name)
  config = testing.config(vocab_size=tokenizer.vocab_size)
  params = testing.weights(config)
  huggingface.save(tmp_path / "in", config, params)
  exporting.export(tmp_path / "in", tmp_path / "out", tokenizer=name)
  pipeline = transformers.pipeline("text-generation", model=str(tmp_path / "out"))
  (written,) = pipeline(text, max_new_tokens=8, do_sample=False, return_full_text=False)
  generate = make_generate(
    Decoder(config), num_tokens=8, stop_ids=(tokenizer.eos_id,), pad_id=tokenizer.pad_id
  )
  prompt = np.array([[tokenizer.bos_id, *tokenizer.encode(text)]], np.int32)
  tokens, num = generate(params, prompt)
  expected = tokenizer.decode(np.asarray(tokens)[0, : int(num[0])].tolist())
  assert len(expected) > 2 and written["generated_text"] == expected


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
  expected = {k: v[1][-1] for k, v in attacked[f"{name}_model"]["scores"].items()}
  assert scored["model"]["scores"] == expected
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


# Keys of config.json that no model needs, in the form of transformers 4 and 5.
OPTIONAL = {
  "eos_token_id": [1, 7, 9],
  "pad_token_id": None,
  "attention_dropout": 0.25,
  "max_position_embeddings": 4096,
  "use_cache": False,
  "cache_implementation": "static",
  "transformers_version": "4.57.1",
  "_name_or_path": "made/up",
  "id2label": {"0": "A", "1": "B"},
  "quirk": {"nested": [1, None, {"x": 1.5}], "text": "\u202e\ud55c"},
}
GENERATION = {
  "bos_token_id": 2,
  "eos_token_id": [1, 7, 9],
  "pad_token_id": 0,
  "do_sample": True,
  "top_p": 0.95,
  "suppress_tokens": None,
  "transformers_version": "4.57.1",
}
# Of these the content does not matter: they are copied.
BESIDE = (
  "tokenizer.json",
  "tokenizer.model",
  "vocab.json",
  "merges.txt",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "additional_chat_templates/rag.jinja",
  "additional_chat_templates/tool_use.jinja",
)
MODELS = sorted(path.name for path in references.ROOT.iterdir() if path.is_dir())


def hugging_face(directory, name, dtypes):
  """Make a directory of Hugging Face's with every optional file and key."""
  directory.mkdir()
  tensors = safetensors.numpy.load_file(references.ROOT / name / "model.safetensors")
  kinds = itertools.cycle(dtypes)
  tensors = {key: value.astype(next(kinds)) for key, value in tensors.items()}
  safetensors.numpy.save_file(tensors, directory / "model.safetensors")
  settings = huggingface.read_settings(references.ROOT / name) | OPTIONAL
  if len(dtypes) == 1:
    settings["dtype"] = settings["torch_dtype"] = np.dtype(*dtypes).name
  (directory / "config.json").write_text(json.dumps(settings))
  (directory / "generation_config.json").write_text(json.dumps(GENERATION))
  for number, file in enumerate(BESIDE):
    (directory / file).parent.mkdir(exist_ok=True)
    (directory / file).write_bytes(b"{}\r\n\xff" + bytes([number]))
  return tensors, settings


@pytest.mark.parametrize("number, name", list(enumerate(MODELS)))
def test_what_comes_in_goes_out_file_by_file_and_key_by_key(tmp_path, number, name):
  dtypes = ([np.float32], [jnp.bfloat16], [np.float16], [jnp.bfloat16, np.float32])
  given, out = tmp_path / "in", tmp_path / "out"
  tensors, settings = hugging_face(given, name, dtypes[number % 4])
  exporting.export(given, out)
  ours = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
  theirs = {str(path.relative_to(given)) for path in given.rglob("*") if path.is_file()}
  assert ours - theirs == {"README.md", "undo_jax.json"} and theirs <= ours
  for file in BESIDE:
    assert (out / file).read_bytes() == (given / file).read_bytes(), file
  assert json.loads((out / "generation_config.json").read_text()) == GENERATION
  written = huggingface.read_settings(out)
  kept = safetensors.numpy.load_file(out / "model.safetensors")
  stored = {str(value.dtype) for value in kept.values()}
  assert stored == {written["torch_dtype"]} == {written["dtype"]}
  if number % 4 == 3:  # Of two dtypes the one that holds the values of both.
    settings = settings | dict.fromkeys(("dtype", "torch_dtype"), "float32")
  assert {key: written[key] for key in settings} == settings
  assert huggingface.read_config(out) == huggingface.read_config(given)
  assert kept.keys() == tensors.keys()
  for key, value in tensors.items():
    np.testing.assert_array_equal(kept[key].astype(np.float32), value.astype("f4"))


def test_an_export_of_another_dtype_says_so_under_both_names(tmp_path):
  hugging_face(tmp_path / "in", "gemma2_window", [np.float32])
  exporting.export(tmp_path / "in", tmp_path / "out", dtype="bfloat16")
  written = huggingface.read_settings(tmp_path / "out")
  assert written["dtype"] == written["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("content", ["{", "[1]", "\x00"])
def test_a_generation_config_that_is_none_is_one_clear_line(tmp_path, content):
  hugging_face(tmp_path / "in", "gemma2_window", [np.float32])
  path = tmp_path / "in" / "generation_config.json"
  path.write_text(content)
  with pytest.raises(ConfigError, match=f"^{path} (cannot be read|must hold)") as error:
    exporting.export(tmp_path / "in", tmp_path / "out")
  assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
