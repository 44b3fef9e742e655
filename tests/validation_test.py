"""Every wrong value stops before compute with what, expected, got."""

import json

import pytest
import tokenizers as hf
from tokenizers import decoders, models, pre_tokenizers

from configs import arithmetic
from undo_jax import validation
from undo_jax.utils.types import ConfigError

ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}

WRONG = [
  ("setting", "poetry", "one of arithmetic, .*, got 'poetry'"),
  ("seed", -1, "at least 0, got -1"),
  ("checkpoint_every", 0, "at least 1, got 0"),
  ("streams.noise", -3, "None or an integer of at least 0, got -3"),
  ("data.num_evaluation", 0, "at least 1, got 0"),
  ("data.packing", "loose", "one of one_per_row, packed, reference, got 'loose'"),
  ("mixtures.data_filtering.forget", 0.1, "0, since it is to be forgotten, got 0.1"),
  ("mixtures.unlearn_retain.forget", 0.1, "0, since it is to be forgotten, got 0.1"),
  ("mixtures.unlearn_forget.retain", 0.1, "0, since only forget is to be forgotten"),
  ("mixtures.pretrain.english", 0.1, "0, since the data's splits are retain, forget"),
  ("mixtures.attack.retain", -1.0, "a weight of at least 0, got -1.0"),
  ("mixtures.attack.forget", 0.0, "mixtures.attack: expected a weight above 0, got {"),
  ("data.num_word_problems", 5, "since there are word problems"),
  ("data.sequence_length", 15, "at least 16 with packing one_per_row"),
  ("evaluation_rows", 0, "at least 1, got 0"),
  ("replicas_at_once", 2, "divisor of the 5 attack.learning_rates .*, got 2"),
  ("replicas_at_once", 0, "None or a divisor .*, got 0"),
  ("data.tokenizer", "words", "unknown data.tokenizer 'words'"),
  ("data.tokenizer", "bytes", "model.vocab_size: expected at least 259"),
  ("model.num_kv_heads", 3, "num_kv_heads must divide num_heads=4, got 3"),
  ("model.head_dim", 23, "head_dim must be even"),
  ("model.remat", "some", "remat must be one of"),
  ("model.width", 0, "width must be at least 1, got 0"),
  ("pretrain.num_microbatches", 3, "a divisor of pretrain.batch_size=128, got 3"),
  ("pretrain.learning_rate", -1.0, "learning_rate >= 0"),
  ("pretrain.warmup_steps", 2000, "warmup_steps in"),
  ("data_filtering.num_steps", 5, "data_filtering: an optimizer needs .* warmup_steps"),
  ("distill.stop.tolerance", 1.5, "a number in \\[0, 1\\], got 1.5"),
  ("distill.stop.evaluate_every", 0, "at least 1, got 0"),
  (
    "unlearn.methods",
    ("max_ent", "npo"),
    "among grad_diff, max_ent, .*, rmu, got 'npo'",
  ),
  ("unlearn.methods", (), "at least one method"),
  ("unlearn.rmu.options.layers", (2, 3), "layers in \\[0, 3\\), got \\(2, 3\\)"),
  ("unlearn.rmu.trainable", (("embedding", ()),), r"expected \(\), since RMU trains"),
  ("unlearn.max_ent.options.retain_loss", "mse", "max_ent.options: retain_loss must"),
  ("unlearn.max_ent.rho", -0.1, "max_ent.rho: expected a number of at least 0"),
  ("pretrain.trainable", (("layers/mlp", ()),), "'layers/mlp' matches no parameter"),
  ("pretrain.trainable", (("embedding", (1, 96)),), "embedding .*got"),
  ("distill.trainable", (("layers/mlp/.*", (3,)),), r"lie in \[0, 3\), got \(3,\)"),
  ("distill.trainable", (("layers/mlp/.*",),), "pairs .path regex, layers."),
  ("distill.trainable", ("layers/mlp/.*",), "pairs .path regex, layers."),
  ("distill.trainable", (("(", ()),), "distill.trainable: .*; set it by"),
  ("distill.stop.scores", (1,), "names of scores"),
  ("distill.options.base_share", 1.5, r"distill.options: base_share must .* got 1.5"),
  ("distill.options.base_choice", "both", "one of mixed, switch, got 'both'"),
  ("distill.options.kl_weight", 0.0, "distill.options: .*not both 0"),
  ("undo.teacher", "rnu", "one of unlearn.methods"),
  (
    "undo.alphas",
    (0.3, 1.2),
    "alphas\\[1\\]: expected a number in \\[0, 1\\], got 1.2",
  ),
  ("undo.alphas", (0.3, 0.3), "values that differ"),
  ("undo.beta", -0.1, "a number in \\[0, 1\\], got -0.1"),
  ("attack.evaluate_every", 7, "a divisor of attack.num_steps=120, got 7"),
  ("attack.warmup_steps", 120, "less than attack.num_steps=120, got 120"),
  ("attack.learning_rates", (), "at least one number"),
  ("attack.learning_rates", (1e-3, -1.0), "all above 0"),
  ("attack.perturb.alpha", 1.5, r"attack.perturb.alpha: .* in \[0, 1\], got 1.5"),
  ("attack.perturb.beta", -1.0, r"attack.perturb.beta: .* in \[0, 1\], got -1.0"),
  ("attack.trainable", (("layers/.*", (7,)),), r"in \[0, 3\), got \(7,\)"),
  ("attack.lora.rank", -1, "attack.lora.rank: expected an integer of at least 0"),
  ("attack.lora.rank", 97, r"lora: rank must lie in \[1, min\(in, out\)\] .* got 97"),
]
# Read only where models are routed.
WRONG_ROUTING = [
  ("methods", ("routed", "era"), "some of routed, routed_control, .*, got .*'era'"),
  ("methods", ("routed", "routed"), "none twice"),
  ("labelled", 0.0, r"a number in \(0, 1\], got 0.0"),
  ("labelled", 1.5, r"a number in \(0, 1\], got 1.5"),
  ("old_target", 1.5, "a number of at most 1, got 1.5"),
  ("coherence_weight", -0.1, "a number of at least 0, got -0.1"),
  ("mlp_units", 384, "routing: of 384 MLP units and 2 key/value heads, 384 and 0 can"),
  ("mlp_units", 0, "routing: an expansion needs mlp_units >= 0 and .*, not both 0"),
  ("kv_heads", -1, "routing: an expansion needs mlp_units >= 0 and kv_heads >= 0"),
  ("kv_heads", 2, "2 key/value heads, 48 and 2 cannot be set aside"),
  ("teachers", ("sgtm",), "routing.methods that are pretrained: routed, got"),
  ("teachers", ("routed_distillation",), "routing.methods that are pretrained"),
  ("teachers", ("routed",), "routing.undo_alphas: expected at least one noise stren"),
  ("alphas", (), "routing.alphas: expected at least one noise strength"),
  ("alphas", (0.5, 1.5), r"routing.alphas\[1\]: .* in \[0, 1\], got 1.5"),
  ("undo_alphas", (0.5, 0.5), "routing.undo_alphas: expected values that differ"),
]
# Read only where adapters are trained.
WRONG_ADAPTERS = [
  ("alpha", 0.0, "lora.alpha: expected a number above 0, got 0.0"),
  ("targets", ("layers/mlp/out",), "'layers/mlp/out' matches no parameter"),
  ("targets", ("layers/.*",), "must match stacked matrices .*_norm/scale"),
  ("targets", ("(",), "'\\(' is no regex"),
  ("targets", (), "at least one path regex"),
]


@pytest.fixture
def config():
  config = arithmetic.get_config("tiny")
  config.lock()
  return config


def test_the_shipped_config_passes():
  validation.check(arithmetic.get_config("tiny"), ONE_DEVICE)


@pytest.mark.parametrize("field, value, message", WRONG)
def test_a_wrong_value_is_named(config, field, value, message):
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message) as error:
    validation.check(config, ONE_DEVICE)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("field, value, message", WRONG_ADAPTERS)
def test_wrong_adapters_are_named(config, field, value, message):
  config.attack.lora[field] = value
  validation.check(config, ONE_DEVICE)
  config.attack.lora.rank = 2
  with pytest.raises(ConfigError, match=message) as error:
    validation.check(config, ONE_DEVICE)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("field, value, message", WRONG_ROUTING)
def test_wrong_routing_is_named(config, field, value, message):
  if field != "methods":
    config.routing[field] = value
    validation.check(config, ONE_DEVICE)
  config.routing.methods = ("routed", "routed_distillation")
  if field == "methods":
    validation.check(config, ONE_DEVICE)
    config.routing.methods = value
  with pytest.raises(ConfigError, match=message) as error:
    validation.check(config, ONE_DEVICE)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pretrain", "distill"])
def test_routed_training_is_checked_as_it_is_changed(config, name):
  config.routing.methods = ("routed", "routed_distillation")
  config.routing[name].num_steps = 0
  with pytest.raises(ConfigError, match=f"config.routing.{name}: .*num_steps >= 1"):
    validation.check(config, ONE_DEVICE)


def test_there_must_be_something_to_route(config):
  config.routing.methods = ("sgtm", "routed_distillation")
  for share in (1.0, 0.25):
    config.routing.labelled = share
    validation.check(config, ONE_DEVICE)
  config.routing.labelled = 0.001
  with pytest.raises(ConfigError, match="'forget' gets a multiple .* rows, not 0"):
    validation.check(config, ONE_DEVICE)
  config.routing.labelled = 0.25
  with pytest.raises(ConfigError, match="a multiple of num_microbatches x 3 .* 16"):
    validation._check_routed_data(config, 3)
  microbatches, config.pretrain.num_microbatches = config.pretrain.num_microbatches, 32
  with pytest.raises(ConfigError, match="a multiple of num_microbatches x 1 .* 16"):
    validation._check_routed_data(config, 1)
  config.pretrain.num_microbatches = microbatches
  config.mixtures.distill.forget = 0.0
  with pytest.raises(
    ConfigError, match="distill: expected weight on forget, which routed_distillation"
  ):
    validation.check(config, ONE_DEVICE)
  config.routing.methods = ("sgtm",)
  config.mixtures.pretrain.retain = 0.0
  with pytest.raises(ConfigError, match="pretrain: expected weight on forget, which s"):
    validation.check(config, ONE_DEVICE)


def test_an_attack_must_relearn_what_was_forgotten(config):
  config.mixtures.attack.update(retain=0.5, forget=0.5)
  validation.check(config, ONE_DEVICE)
  config.mixtures.attack.update(retain=1.0, forget=0.0)
  with pytest.raises(ConfigError, match="attack: expected weight on forget: the att"):
    validation.check(config, ONE_DEVICE)


def test_what_fits_alone_may_not_fit_together(config):
  config.attack.trainable = (("embedding", ()),)
  config.unlearn.methods = ("max_ent", "max_ent_sam")
  validation.check(config, ONE_DEVICE)
  config.unlearn.max_ent_sam.objective = "forward_kl"
  with pytest.raises(ConfigError, match="max_ent_sam.objective: expected one of max_e"):
    validation.check(config, ONE_DEVICE)
  config.unlearn.max_ent_sam.objective = "rmu"
  with pytest.raises(ConfigError, match="'rmu' takes the options"):
    validation.check(config, ONE_DEVICE)
  config.unlock()
  config.unlearn.mine = config.unlearn.max_ent.copy_and_resolve_references()
  config.unlearn.mine.objective = "max_ent"
  config.update(
    {
      "unlearn": {"methods": ("mine",)},
      "undo": {"teacher": "mine", "oracle_matching": False},
    }
  )
  with pytest.raises(ConfigError, match="methods: expected one of max_ent, .* 0, got"):
    validation.check(config, ONE_DEVICE)
  config.update({"unlearn": {"methods": ("max_ent",)}, "undo": {"teacher": "max_ent"}})
  config.attack.lora.rank = 2
  with pytest.raises(ConfigError, match="attack.trainable: .* adapters are trained"):
    validation.check(config, ONE_DEVICE)
  config.attack.lora.rank = 0
  config.distill.options.update(kl_weight=0.0, activation_weight=1.0)
  with pytest.raises(ConfigError, match="kl_weight: expected above 0 where undo.unl"):
    validation.check(config, ONE_DEVICE)
  config.undo.unlearn_and_distill = False
  validation.check(config, ONE_DEVICE)


def test_adapters_of_the_largest_rank_pass(config):
  config.attack.lora.rank = 48  # Keys and values: 96 -> 2 * 24.
  validation.check(config, ONE_DEVICE)
  config.attack.lora.rank = 49
  with pytest.raises(ConfigError, match=r"attention/key/kernel \(3, 96, 48\)"):
    validation.check(config, ONE_DEVICE)


def write_tokenizer(directory, tokenizer, **named):
  directory.mkdir()
  tokenizer.save(str(directory / "tokenizer.json"))
  (directory / "config.json").write_text(json.dumps({"eos_token_id": 1} | named))
  return f"huggingface:{directory}"


@pytest.fixture
def byte_level(tmp_path):
  """Names a tokenizer file of one token a byte, ids 0 to 2 special, as `bytes`."""
  tokens = ["<pad>", "<eos>", "<bos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
  vocab = {token: index for index, token in enumerate(tokens)}
  tokenizer = hf.Tokenizer(models.BPE(vocab, []))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  return lambda **named: write_tokenizer(tmp_path / "bytes", tokenizer, **named)


@pytest.mark.parametrize(
  "packing, bos_id, enough, which",
  [  # "400 / 20 = 20.0" and "1 + 1 = 2", with BOS in front.
    ("one_per_row", 2, 16, "longest"),
    ("one_per_row", None, 15, "longest"),
    ("packed", 2, 10, "shortest"),
    ("reference", None, 9, "shortest"),
  ],
)
def test_rows_hold_equations_in_the_files_tokens(
  config, byte_level, packing, bos_id, enough, which
):
  config.data.tokenizer = byte_level(bos_token_id=bos_id)
  config.model.vocab_size = 259
  config.data.packing = packing
  config.data.sequence_length = enough
  validation.check(config, ONE_DEVICE)
  config.data.sequence_length = enough - 1
  message = f"at least {enough} with packing {packing}, the {which}"
  with pytest.raises(ConfigError, match=message):
    validation.check(config, ONE_DEVICE)


def test_the_model_has_every_id_of_the_file(config, byte_level):
  config.data.tokenizer = byte_level()
  config.model.vocab_size = 258
  message = "vocab_size: expected at least 259, .* 'huggingface:.*, got 258"
  with pytest.raises(ConfigError, match=message):
    validation.check(config, ONE_DEVICE)


def test_a_missing_or_broken_tokenizer_file_is_named(config, tmp_path):
  config.data.tokenizer = f"sentencepiece:{tmp_path}"
  with pytest.raises(ConfigError, match=f"no file {tmp_path}/tokenizer.model"):
    validation.check(config, ONE_DEVICE)
  (tmp_path / "tokenizer.model").write_bytes(b"no model")
  with pytest.raises(ConfigError, match="tokenizer.model cannot be read"):
    validation.check(config, ONE_DEVICE)


def test_a_tokenizer_that_cannot_write_the_equations_is_refused(config, tmp_path):
  words = hf.Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
  config.data.tokenizer = write_tokenizer(tmp_path / "words", words)
  with pytest.raises(ConfigError, match="back equations as they were, but '1 . 1 = 2'"):
    validation.check(config, ONE_DEVICE)


@pytest.mark.parametrize(
  "axes, message",
  [
    ({"data": 3}, "pretrain.batch_size: expected a multiple of num_microbatches x 3"),
    ({"replica": 2}, "learning_rates: expected a number of rates that divides over"),
  ],
)
def test_what_does_not_divide_over_the_devices(config, axes, message):
  with pytest.raises(ConfigError, match=message):
    validation.check(config, ONE_DEVICE | axes)


def test_a_workdir_belongs_to_one_config(config, tmp_path):
  workdir = tmp_path / "run"
  validation.claim_workdir(workdir, config)
  validation.claim_workdir(workdir, config)
  config.mesh.fsdp = 2  # How it runs may change.
  validation.claim_workdir(workdir, config)
  config.undo.beta = 0.5
  with pytest.raises(ConfigError, match=r"config.undo.beta \(0.1 there, 0.5 here\)"):
    validation.claim_workdir(workdir, config)


def test_a_workdir_from_before_adapters_is_resumed_without_them(config, tmp_path):
  old = config.copy_and_resolve_references()
  with old.unlocked():
    del old.attack.lora, old.routing
  validation.claim_workdir(tmp_path, old)
  validation.claim_workdir(tmp_path, config)
  config.attack.lora.alpha = 4.0  # Not read: the rank is 0.
  config.routing.labelled = 0.5  # Nor is routing, which is off.
  validation.claim_workdir(tmp_path, config)
  config.attack.lora.rank = 2
  with pytest.raises(ConfigError, match=r"config.attack.lora \('nothing' there, {"):
    validation.claim_workdir(tmp_path, config)


def test_a_workdir_that_is_a_file_is_refused(config, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match="must be a directory that can be written"):
    validation.claim_workdir(tmp_path / "file", config)


def test_an_unknown_size_names_the_known():
  with pytest.raises(ValueError, match="known are tiny, small"):
    arithmetic.get_config("huge")
