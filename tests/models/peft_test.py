"""PEFT's files: what is written is read back, by us and by PEFT itself."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save_file

from tests.models import huggingface_references as references
from undo_jax import testing
from undo_jax.models import huggingface, lora, peft
from undo_jax.models.decoder import Decoder
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError

KEY = jax.random.key(0)
CONFIG = testing.config()
RANK, ALPHA = 3, 6
ALL = (r"layers/(attention/(query|key|value|out)|mlp/(gate|up|down))/kernel",)
QUERY_DOWN = (r"layers/(attention/query|mlp/down)/kernel",)
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def params():
  return jax.jit(Decoder(CONFIG).init)(KEY)


def drawn(params, targets=ALL, rank=RANK):
  fresh = lora.init(params, KEY, rank=rank, targets=targets)
  rng = np.random.default_rng(7)
  return jax.tree.map(
    lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), jnp.float32), fresh
  )


@pytest.fixture
def saved(params, tmp_path):
  """A written adapter, whose files a test may spoil."""
  directory = tmp_path / "adapter"
  peft.save(
    directory, CONFIG, drawn(params, QUERY_DOWN), alpha=ALPHA, base_model="our/base"
  )
  return directory


def change_config(directory, **changes):
  path = directory / peft.CONFIG_FILE
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(directory, change):
  path = directory / peft.TENSOR_FILE
  save_file(change(load_file(path)), path)


# MARK: what is written


def test_the_files_are_those_of_the_format(saved, params):
  assert sorted(path.name for path in saved.iterdir()) == [
    "adapter_config.json",
    "adapter_model.safetensors",
  ]
  config = json.loads((saved / "adapter_config.json").read_text())
  expected = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "our/base",
    "r": 3,
    "lora_alpha": 6,
    "target_modules": ["down_proj", "q_proj"],
    "bias": "none",
  }
  assert expected.items() <= config.items()
  tensors = load_file(saved / "adapter_model.safetensors")
  assert {name: x.shape for name, x in tensors.items()} == {
    f"base_model.model.model.layers.{i}.{module}.lora_{factor}.weight": shape
    for i in range(2)
    for module, factor, shape in (
      ("self_attn.q_proj", "A", (3, 16)),
      ("self_attn.q_proj", "B", (32, 3)),
      ("mlp.down_proj", "A", (3, 32)),
      ("mlp.down_proj", "B", (16, 3)),
    )
  }
  # Value by value: a transposed view written as it lies would have this shape too.
  ours = drawn(params, QUERY_DOWN)["layers"]["mlp"]["down"]["kernel"]
  theirs = tensors["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"]
  assert all(theirs[o, r] == ours["b"][1, r, o] for o in range(16) for r in range(3))
  with safetensors.safe_open(saved / peft.TENSOR_FILE, "np") as file:
    assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("targets", [ALL, QUERY_DOWN])
def test_a_round_trip_is_exact(params, targets, tmp_path):
  adapters = drawn(params, targets)
  peft.save(tmp_path / "adapter", CONFIG, adapters, alpha=4.5)
  got = peft.load(tmp_path / "adapter", CONFIG)
  assert (got.rank, got.alpha, got.scale) == (3, 4.5, 1.5)
  assert trees.paths(got.adapters) == trees.paths(adapters)
  for x, y in zip(
    jax.tree.leaves(got.adapters), jax.tree.leaves(adapters), strict=True
  ):
    assert x.dtype == jnp.float32
    np.testing.assert_array_equal(x, y)


def test_an_adapter_may_go_into_an_empty_directory_but_over_nothing(params, tmp_path):
  (tmp_path / "empty").mkdir()
  peft.save(tmp_path / "empty", CONFIG, drawn(params), alpha=1)
  before = (tmp_path / "empty" / peft.TENSOR_FILE).read_bytes()
  with pytest.raises(ConfigError, match="exists already and is not overwritten"):
    peft.save(tmp_path / "empty", CONFIG, drawn(params, QUERY_DOWN), alpha=1)
  assert (tmp_path / "empty" / peft.TENSOR_FILE).read_bytes() == before


def test_a_failed_write_leaves_nothing(params, tmp_path, monkeypatch):
  def fail(path, value):
    assert any(path.parent.iterdir())  # The tensors are written already.
    raise OSError("no space left on device")

  monkeypatch.setattr(peft.files, "write_json", fail)
  with pytest.raises(OSError, match="no space"):
    peft.save(tmp_path / "adapter", CONFIG, drawn(params), alpha=1)
  assert not list(tmp_path.iterdir())


def test_adapters_without_a_place_in_the_format_are_errors(params, tmp_path):
  adapters = drawn(params, QUERY_DOWN)
  population = jax.tree.map(lambda x: jnp.stack([x, x]), adapters)
  with pytest.raises(ConfigError, match="of a population, save one member"):
    peft.save(tmp_path / "x", CONFIG, population, alpha=1)
  with pytest.raises(
    ConfigError, match="'layers/mlp/out/kernel' is no kernel of the model"
  ):
    mlp = adapters["layers"]["mlp"]["down"]
    peft.save(tmp_path / "x", CONFIG, {"layers": {"mlp": {"out": mlp}}}, alpha=1)
  with pytest.raises(ConfigError, match="alpha must be a number above 0, got 0"):
    peft.save(tmp_path / "x", CONFIG, adapters, alpha=0)
  other = drawn(params, ("layers/mlp/up/kernel",), rank=2)
  adapters["layers"]["mlp"]["up"] = other["layers"]["mlp"]["up"]
  with pytest.raises(
    ValueError, match="one rank, got .*down/kernel': 3.*up/kernel': 2"
  ):
    peft.save(tmp_path / "x", CONFIG, adapters, alpha=1)
  assert not list(tmp_path.iterdir())


# MARK: what is read


def test_rank_stabilized_adapters_have_their_own_scale(saved):
  change_config(saved, use_rslora=True)
  np.testing.assert_allclose(peft.load(saved, CONFIG).scale, 6 / 3**0.5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_exactly(saved, dtype):
  full = load_file(saved / peft.TENSOR_FILE)
  halves = {name: x.astype(jnp.dtype(dtype)) for name, x in full.items()}
  specs = {
    name: safetensors.TensorSpec(
      dtype=dtype, shape=x.shape, data_ptr=x.ctypes.data, data_len=x.nbytes
    )
    for name, x in halves.items()
  }
  safetensors.serialize_file(specs, saved / peft.TENSOR_FILE)
  a = peft.load(saved, CONFIG).adapters["layers"]["attention"]["query"]["kernel"]["a"]
  assert a.dtype == jnp.float32
  np.testing.assert_array_equal(a[0].T, halves[FIRST].astype(np.float32))
  assert np.any(a[0].T != full[FIRST])


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("use_dora", True, "uses what is not supported: use_dora=True"),
    ("rank_pattern", {"q_proj": 8}, "not supported: rank_pattern="),
    ("alpha_pattern", {"q_proj": 8}, "not supported: alpha_pattern="),
    ("modules_to_save", ["lm_head"], r"not supported: modules_to_save=\['lm_head'\]"),
    ("layers_to_transform", [0], r"not supported: layers_to_transform=\[0\]"),
    ("exclude_modules", ["k_proj"], "not supported: exclude_modules"),
    ("lora_bias", True, "not supported: lora_bias=True"),
    ("an_option_of_tomorrow", "on", "not supported: an_option_of_tomorrow='on'"),
    ("init_lora_weights", "pissa", "init_lora_weights must be .*, got 'pissa'"),
    ("peft_type", "IA3", "peft_type must be LORA, got 'IA3'"),
    ("task_type", "SEQ_CLS", "task_type must be CAUSAL_LM or null, got 'SEQ_CLS'"),
    ("bias", "all", "bias must be none, got 'all'"),
    ("r", 0, "r must be an integer of at least 1, got 0"),
    ("r", 4, rf"{FIRST} must have the shape \(4, 16\), of rank 4 .*, got \(3, 16\)"),
    ("lora_alpha", "six", "lora_alpha must be a number, got 'six'"),
    ("target_modules", None, "target_modules must be a list"),
    ("target_modules", ["q_proj", "lm_head"], "names 'lm_head', which cannot"),
    ("target_modules", ["down_proj", "up_proj"], "lacks .*layers.0.mlp.up_proj.lora_A"),
  ],
)
def test_a_config_that_is_no_plain_lora_is_refused_by_name(
  saved, field, value, message
):
  change_config(saved, **{field: value})
  with pytest.raises(ConfigError, match=message) as error:
    peft.load(saved, CONFIG)
  assert "\n" not in str(error.value)


def test_fields_that_are_off_change_nothing(saved):
  before = peft.load(saved, CONFIG)
  change_config(saved, use_dora=False, rank_pattern={}, modules_to_save=None)
  change_config(saved, lora_dropout=0.1, init_lora_weights="gaussian")
  change_config(saved, target_modules=".*(q|down)_proj")
  after = peft.load(saved, CONFIG)
  assert before[1:] == after[1:]
  jax.tree.map(np.testing.assert_array_equal, before.adapters, after.adapters)


def without(name):
  return lambda tensors: {k: v for k, v in tensors.items() if k != name}


@pytest.mark.parametrize(
  "change, message",
  [
    (without(FIRST), f"lacks tensors: {FIRST};"),
    (lambda t: t | {"lm_head.lora_A.weight": t[FIRST]}, "no place for: lm_head.lora_A"),
    (lambda t: t | {FIRST.replace(".0.", ".2."): t[FIRST]}, r"no place for: .*rs\.2\."),
    (lambda t: t | {FIRST: t[FIRST][:2]}, rf"{FIRST} must .*\(3, 16\).*got \(2, 16\)"),
    (lambda t: t | {FIRST: t[FIRST].T.copy()}, rf"{FIRST} must .*got \(16, 3\)"),
    (lambda t: t | {FIRST: t[FIRST].astype(int)}, f"{FIRST} must be one of F32, .*I64"),
    (lambda t: t | {FIRST: t[FIRST] * np.nan}, f"{FIRST} has values .* not finite"),
    (lambda t: {}, "lacks tensors: .*layers.0.mlp.down_proj.* and 2 more"),
  ],
)
def test_tensors_that_do_not_fit_name_themselves(saved, change, message):
  change_tensors(saved, change)
  with pytest.raises(ConfigError, match=message) as error:
    peft.load(saved, CONFIG)
  assert "\n" not in str(error.value)


def test_a_model_of_another_size_is_an_error(saved):
  with pytest.raises(ConfigError, match=r"must have the shape .*, got \(\d+, \d+\)"):
    peft.load(saved, testing.config(width=24))
  with pytest.raises(ConfigError, match=r"lacks tensors: .*layers\.2\."):
    peft.load(saved, testing.config(num_layers=3))


def test_a_pickle_is_refused_with_the_reason(saved):
  (saved / peft.TENSOR_FILE).rename(saved / "adapter_model.bin")
  with pytest.raises(ConfigError, match="a pickle, which can run code.*safe_serializ"):
    peft.load(saved, CONFIG)


def test_files_that_are_missing_or_broken_are_errors(saved):
  with pytest.raises(ConfigError, match="has no adapter_config.json"):
    peft.load(saved.parent, CONFIG)
  (saved / peft.TENSOR_FILE).write_bytes(b"\0" * 20)
  with pytest.raises(ConfigError, match="is no safetensors file"):
    peft.load(saved, CONFIG)
  (saved / peft.TENSOR_FILE).unlink()
  with pytest.raises(ConfigError, match="has no adapter_model.safetensors"):
    peft.load(saved, CONFIG)
  (saved / peft.CONFIG_FILE).write_text("{")
  with pytest.raises(ConfigError, match="cannot be read as JSON"):
    peft.load(saved, CONFIG)
  (saved / peft.CONFIG_FILE).write_text("[1]")
  with pytest.raises(ConfigError, match="must hold a JSON object, got list"):
    peft.load(saved, CONFIG)


# MARK: PEFT itself

FAMILIES = ["gemma", "gemma2_window", "gemma3_window", "llama", "qwen2", "qwen3"]


def theirs(name):
  """A random model of transformers, and our config and parameters of it."""
  pytest.importorskip("torch")
  pytest.importorskip("peft")
  transformers = pytest.importorskip("transformers")
  model = transformers.AutoModelForCausalLM.from_pretrained(
    references.ROOT / name, attn_implementation="eager"
  )
  return model.eval(), *huggingface.load(references.ROOT / name)


def logits(model, tokens):
  import torch

  with torch.no_grad():
    return model(torch.tensor(np.asarray(tokens, np.int64))).logits.numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_of_ours_does_in_peft_what_it_does_here(name, tmp_path):
  model, config, params = theirs(name)
  tokens = testing.batch(KEY, rows=4)["inputs"]
  apply = jax.jit(Decoder(config).apply)
  plain = logits(model, tokens)
  np.testing.assert_allclose(apply(params, tokens).logits, plain, atol=1e-4)
  adapters = drawn(params)
  peft.save(tmp_path / "adapter", config, adapters, alpha=ALPHA)
  import peft as their_peft

  adapted = their_peft.PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
  got = logits(adapted.eval(), tokens)
  merged = lora.merge(params, adapters, scale=ALPHA / RANK)
  np.testing.assert_allclose(apply(merged, tokens).logits, got, atol=1e-4)
  assert np.abs(got - plain).max() > 0.1


@pytest.mark.parametrize(
  "name, targets, use_rslora",
  [*((name, "all-linear", False) for name in FAMILIES)]
  + [("gemma2_window", ["q_proj", "down_proj"], True)],
)
def test_an_adapter_of_peft_does_here_what_it_does_there(
  name, targets, use_rslora, tmp_path
):
  model, config, params = theirs(name)
  import peft as their_peft
  import torch

  tokens = testing.batch(KEY, rows=4)["inputs"]
  plain = logits(model, tokens)
  settings = their_peft.LoraConfig(
    r=RANK,
    lora_alpha=ALPHA,
    target_modules=targets,
    task_type="CAUSAL_LM",
    use_rslora=use_rslora,
  )
  adapted = their_peft.get_peft_model(model, settings).eval()
  torch.manual_seed(0)
  for parameter, tensor in adapted.named_parameters():
    if "lora_" in parameter:  # B too, which is zero at the start.
      torch.nn.init.normal_(tensor, std=0.3)
  adapted.save_pretrained(tmp_path)
  got = peft.load(tmp_path, config)
  assert len(lora.pairs(got.adapters)) == (7 if targets == "all-linear" else 2)
  merged = lora.merge(params, got.adapters, scale=got.scale)
  expected = logits(adapted, tokens)
  ours = jax.jit(Decoder(config).apply)(merged, tokens).logits
  np.testing.assert_allclose(ours, expected, atol=1e-4)
  assert np.abs(expected - plain).max() > 0.1
