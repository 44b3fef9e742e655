"""Every wrong value stops before compute with what, expected, got."""

import copy
import functools
import json

import pytest
import tokenizers as hf
from tokenizers import decoders, models, pre_tokenizers, processors

from tests.plan.plans import overridden
from undo_jax import config as builders
from undo_jax.plan import checks
from undo_jax.plan.config import parse
from undo_jax.utils.types import ConfigError

ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}


def check(config, **axes):
  checks.check(parse(config), ONE_DEVICE | axes)


WRONG = [
  ("task", "poetry", "config.task: expected as task one of arith.*'poetry'"),
  ("seeds", (-1,), r"seeds: expected at least one integer in \[0, .*got \(-1,\)"),
  ("seeds", (0, 0), "seeds: .* none twice"),
  ("seeds", (10**30,), "seeds: "),
  ("checkpoint_every", 0, "at least 1, got 0"),
  ("streams.noise", -3, "None or an integer in .*, got -3"),
  ("data.num_evaluation", 0, "at least 1, got 0"),
  ("data.packing", "loose", "one of one_per_row, packed, reference, got 'loose'"),
  ("mixtures.data_filtering.forget", 0.1, "0, since it is to be forgotten, got 0.1"),
  ("mixtures.unlearn_retain.forget", 0.1, "0, since it is to be forgotten, got 0.1"),
  ("mixtures.unlearn_forget.retain", 0.1, "0, since what is to be forgotten is forget"),
  ("mixtures.pretrain.english", 0.1, "0, since the data's splits are retain, forget"),
  ("mixtures.attack.retain", -1.0, "a weight of at least 0, got -1.0"),
  ("mixtures.attack.attack", 0.0, "mixtures.attack: expected a weight above 0, got {"),
  ("mixtures.attack.forget", float("nan"), "attack.forget: expected a finite number"),
  ("data.num_word_problems", 5, "since there are word problems"),
  ("data.sequence_length", 15, "at least 16 with packing one_per_row"),
  ("data.sequence_length", 10**12, "sequence_length: expected an integer"),
  ("evaluation_rows", 0, "at least 1, got 0"),
  ("replicas_at_once", 2, "divisor of the 5 learning rates .*, got 2"),
  ("replicas_at_once", 0, "at least 1, got 0"),
  ("models_at_once", 0, "at least 1, got 0"),
  ("updates_at_once", 0, "at least 1, got 0"),
  ("data.tokenizer", "words", "unknown data.tokenizer 'words'"),
  ("data.tokenizer", "bytes", "model.vocab_size: expected at least 259"),
  ("model.num_kv_heads", 3, "num_kv_heads must divide num_heads=4, got 3"),
  ("model.head_dim", 23, "head_dim must be even"),
  ("model.remat", "some", "remat must be one of"),
  ("model.width", 0, "width must be at least 1, got 0"),
  ("models.base.num_microbatches", 3, "a divisor of batch_size=128, got 3"),
  ("models.base.batch_size", 10**12, "batch_size: expected an integer below"),
  (
    "models.base.optimizer.name",
    "sgdd",
    "base: .*'sgdd'",
  ),
  ("models.base.optimizer.learning_rate", -1.0, "a number of at least 0, got -1.0"),
  ("models.base.optimizer.warmup_steps", 2000, "at most num_steps=800, got 2000"),
  ("models.base.optimizer.clip_norm", 0.0, "clip_norm: expected a number above 0"),
  (
    "models.base.optimizer.num_steps",
    0,
    "num_steps: expected an integer of at le",
  ),
  ("models.data_filtering.optimizer.num_steps", 5, "warmup_steps: expected at most"),
  ("models.base.phase", "train", "models.base.phase: expected 'pretrain'"),
  ("models.base.order_stream", "order", "order_stream: expected one of init, data"),
  ("models.undo.stop.options.tolerance", 1.5, r"tolerance: .* in \[0, 1\], got 1.5"),
  ("models.undo.stop.evaluate_every", 0, "at least 1, got 0"),
  ("models.undo.stop.rule", "never", "models.undo: .*'never'"),
  ("models.max_ent.objective", "mpo", "models.max_ent: .*'mpo'"),
  ("models.rmu.options.layers", (2, 3), r"layers in \[0, 3\), got \[2, 3\]"),
  (
    "models.rmu.optimizer.trainable",
    (("embedding", ()),),
    r"expected \(\), since rmu says itself",
  ),
  (
    "models.max_ent.options.retain_loss",
    "mse",
    "retain_loss: expected 'cross_entropy' or 'kl'",
  ),
  ("models.max_ent.rho", -0.1, "max_ent.rho: expected a number of at least 0"),
  ("models.base.optimizer.trainable", (("layers/mlp", ()),), "matches no parameter"),
  ("models.base.optimizer.trainable", (("embedding", (1, 96)),), "embedding .*got"),
  (
    "models.undo.optimizer.trainable",
    (("layers/mlp/.*", (3,)),),
    r"lie in \[0, 3\), got \(3,\)",
  ),
  ("models.undo.optimizer.trainable", (("layers/mlp/.*",),), "undo.optimizer.trainab"),
  ("models.undo.optimizer.trainable", ("layers/mlp/.*",), "undo.optimizer.trainable"),
  ("models.undo.optimizer.trainable", (("(", ()),), "optimizer.trainable: .*; set it"),
  ("models.undo.stop.options.scores", (1,), "stop.options.scores.* a valid string"),
  (
    "models.undo.options.base_share",
    1.5,
    "base_share: .* at most 1, got 1.5",
  ),
  ("models.undo.options.base_choice", "both", "one of mixed, switch, got 'both'"),
  ("models.undo.options.kl_weight", 0.0, "kl_weight or activation_weight above 0"),
  ("models.undo.options.divergence", "kl", "options.divergence: expected one of forw"),
  ("models.undo.options.temperature", -2.0, "temperature: .* above 0, got -2.0"),
  ("models.undo.options.teacher_top_k", 33, "top_k: .* model.vocab_size=32, got 33"),
  ("models.undo.frozen.teacher", None, "frozen.teacher: expected a model, since star"),
  ("models.undo.sweep.noise.alpha", (0.3, 1.2), r"alpha: .* in \[0, 1\], got 1.2"),
  ("models.undo.sweep.noise.alpha", (0.3, 0.3), "values that differ"),
  ("models.undo.sweep.noise.alpha", (), "values in a tuple"),
  ("models.undo.noise.beta", -0.1, r"a number in \[0, 1\], got -0.1"),
  ("models.undo.noise.rules", (("head/.*", (), 0.1),), "noise.rules: .*matches no par"),
  ("models.undo.noise.std", -0.1, "noise.std: expected a number of at least 0"),
  ("models.undo.optimizer.displacement", -1.0, "rule: expected None, with optimizer.d"),
  ("models.undo.teacher_prompt", "Say nothing.", "a text that the tokenizer 'charac"),
  ("models.max_ent.teacher_prompt", "6*7=", "None, since max_ent has no teacher"),
  ("models.max_ent.folds.forgotten", 2, "folds.forgotten: expected at most count=1"),
  ("models.undo.folds.count", 2, "folds.count: expected 1, since its mixture has no"),
  ("models.max_ent.trained.curvature", 0.0, "curvature: expected a number above 0"),
  ("models.undo.noise.rules", (("layers/.*", (7,), 0.1),), r"in \[0, 3\), got \(7,\)"),
  (
    "models.undo.noise.rules",
    (("layers/.*", (), 1.1),),
    r"alphas in \[0, 1\], got 1.1",
  ),
  ("models.undo.noise.again_every", 0, "again_every: .*at least 1, got 0"),
  ("models.undo.noise.again_times", 0, "again_times: .*at least 1, got 0"),
  ("models.undo.noise.again_every", 900, "again_every: .* below .*num_steps=900"),
  ("models.base.optimizer.decay_steps", 0, "decay_steps: .*at least 1, got 0"),
  ("models.base.optimizer.decay_steps", 781, "at most num_steps=800 less .*, got 781"),
  ("models.max_ent.optimizer.decay_steps", 9, "final_learning_rate: .*, got None"),
  ("models.base.optimizer.decay", "sqrt", "decay: expected 'linear' or '1-sqrt'"),
  ("models.undo.noise.saliency.by", "fisher", r"saliency.by: expected 'saliency', "),
  ("models.undo.noise.saliency.share", 1.5, r"saliency.share: .*in \[0, 1\], got 1.5"),
  ("models.undo.noise.saliency.low", -1.0, r"saliency.low: .*in \[0, 1\], got -1.0"),
  (
    "models.undo.noise.saliency.granularity",
    "row",
    "granularity: expected 'weight' or",
  ),
  ("models.undo.noise.saliency.selection", -1.0, "selection: .* at least 0, got -1.0"),
  ("models.undo.noise.saliency.num_batches", 0, "num_batches: .*at least 1, got 0"),
  ("attacks.relearn.noise.rules", (("(", (), 1.0),), "relearn.noise.rules: .*no regex"),
  (
    "models.undo.mixture.batch",
    "destill",
    "mixture.batch: expected one of .*'destill'",
  ),
  ("models.base.reserve.mlp_units", 4, "no units, since cross_entropy does not route"),
  ("attacks.relearn.evaluate_every", 7, "a divisor of num_steps=120, got 7"),
  ("attacks.relearn.warmup_steps", 120, "less than num_steps=120, got 120"),
  ("attacks.relearn.learning_rates", (), "at least one number"),
  ("attacks.relearn.learning_rates", (1e-3, -1.0), "all above 0"),
  ("attacks.relearn.learning_rates", (1e-3, 1e30), r"at most 1e\+06"),
  ("attacks.relearn.learning_rates", (1e-3, 1e-3), "values that differ"),
  ("attacks.relearn.noise.alpha", 1.5, r"noise.alpha: .* in \[0, 1\], got 1.5"),
  ("attacks.relearn.noise.beta", -1.0, r"noise.beta: .* in \[0, 1\], got -1.0"),
  ("attacks.relearn.trainable", (("layers/.*", (7,)),), r"in \[0, 3\), got \(7,\)"),
  ("attacks.relearn.adversary", "gcg", "attacks.relearn: .*'gcg'"),
  ("attacks.relearn.models", ("bose",), "models: expected some of base, .*'bose'"),
  (
    "attacks.relearn.mixture",
    "atack",
    "mixture: expected one of .*, pretrain, .*'atack'",
  ),
  ("references.base", "bose", "references.base: expected None or one of .*base"),
  ("report.rival", "undoo", "report.rival: expected None or one of .*base"),
  ("report.budgets", (), "at least one number of updates"),
  ("report.budgets", (20, 20), "values that differ"),
  ("report.budgets", (20, 55), r"evaluated \(every 10 up to 120\), got 55"),
  ("report.budgets", (130,), r"evaluated \(every 10 up to 120\), got 130"),
  ("attacks.relearn.mixture", "", "relearn.mixture: expected one of attack, .* got .."),
  ("attacks.relearn.seeds", (3, 3), "relearn.seeds: expected values that differ"),
  ("attacks.relearn.seeds", (-1,), r"integers in \[0, 2\^31\)"),
  ("report.filtering", ("nobody",), "report.filtering: expected None or one of"),
  ("report.worst_over", ("relern",), "worst_over: expected some of relearn"),
  ("writers", ("jsonl", "cloud"), "writers: .*'cloud'"),
]
# Read only where noise is shaped by squared gradients.
WRONG_SALIENCY = [
  ("model", "bose", "noise.saliency.model: expected one of base, .*'bose'"),
  ("mixtures.forget", "fogret", "mixtures.forget: expected one of .*'fogret'"),
  ("mixtures.forget", "distill", "distill.retain: expected 0, since what is to be"),
  ("batch_size", 12, r"saliency.batch_size: expected a multiple of 8 .*, got 12"),
]
# Read only where a teacher's predictions are kept.
WRONG_PREDICTIONS = [
  (
    "options.activation_weight",
    0.1,
    "options.activation_weight: expected 0 .* got 0.1",
  ),
  ("options.base_share", 0.5, "models.undo.options.base_share: expected 0 where"),
  ("teacher_prompt", "6*7=", "teacher_prompt: expected None where teacher_predictions"),
  ("options.teacher_top_k", 33, "teacher_top_k: expected at most model.vocab_size=32"),
  ("teacher_predictions.dtype", "float8", "predictions.dtype: expected 'float32' or"),
  ("frozen.teacher", None, "frozen.teacher: expected a model, .*got None"),
  ("objective", "cross_entropy", "objective 'cross_entropy' takes the options"),
]
# Read only where models are routed.
WRONG_ROUTING = [
  ("sgtm.rho", 0.01, "sgtm.rho: expected 0, since sgtm masks its gradients by source"),
  ("routed.labels.share", 0.0, r"a number in \(0, 1\], got 0.0"),
  ("routed.labels.share", 1.5, r"a number in \(0, 1\], got 1.5"),
  ("routed.reserve.old_target", 1.5, "a number of at most 1, got 1.5"),
  ("routed.options.coherence_weight", -0.1, r"coherence_weight: .* at least 0"),
  ("routed.reserve.mlp_units", 384, "of 384 MLP units and 4 key/value heads, 384 and"),
  ("routed.reserve.mlp_units", 0, "mlp_units or kv_heads above 0, since routed routes"),
  ("routed.reserve.kv_heads", -1, "kv_heads: expected an integer of at least 0"),
  ("routed.reserve.kv_heads", 4, "4 key/value heads, 96 and 4 cannot be set aside"),
  ("routed_undo.sweep.noise.alpha", (0.5, 1.5), r"in \[0, 1\], got 1.5"),
  ("routed.optimizer.num_steps", 0, "models.routed.optimizer.num_steps: expected"),
]
# Read only where adapters are trained.
WRONG_ADAPTERS = [
  ("rank", 0, "rank: expected an integer of at least 1"),
  ("rank", 97, r"rank must lie in \[1, min\(in, out\)\] .* got 97"),
  ("alpha", 0.0, "alpha: expected a number above 0, got 0.0"),
  ("targets", ("layers/mlp/out",), "'layers/mlp/out' matches no parameter"),
  ("targets", ("layers/.*",), "must match stacked matrices .*_norm/scale"),
  ("targets", ("(",), r"'\(' is no regex"),
  ("targets", (), "at least one path regex"),
]


@functools.cache
def shipped(name):
  return builders.shipped(f"{name}:tiny").lock()


@pytest.fixture
def config():
  return copy.deepcopy(shipped("arithmetic"))


@pytest.fixture
def routing():
  return copy.deepcopy(shipped("routing_arithmetic"))


def refused(config, message, **axes):
  with pytest.raises(ConfigError, match=message) as error:
    check(config, **axes)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["arithmetic", "routing_arithmetic"])
def test_the_shipped_config_passes(name):
  check(shipped(name))


@pytest.mark.parametrize("field, value, message", WRONG)
def test_a_wrong_value_is_named(config, field, value, message):
  with config.ignore_type():
    config.update_from_flattened_dict({field: value})
  refused(config, message)


@pytest.mark.parametrize(
  "field, value",
  [
    ("models.base.optimizer.final_learning_rate", None),
    ("models.base.optimizer.clip_norm", None),
    ("models.base.optimizer.clip_norm", float("inf")),  # No clipping.
    ("models.undo.stop.rule", None),
    ("models.undo.optimizer.trainable", (("layers/mlp/.*", (0, 1)), ("embedding", ()))),
    ("replicas_at_once", 5),
    ("references.filtered", None),
    ("attacks.relearn.mixture", "distill"),
  ],
)
def test_what_is_meant_passes(config, field, value):
  config.update_from_flattened_dict({field: value})
  check(config)


def test_an_entry_that_is_not_run_is_not_there(config):
  config.models.grad_diff.run = False
  config.models.grad_diff.objective = "nothing like it"
  config.models.data_filtering.run = config.models.oracle_matching.run = False
  check(config)
  assert parse(config).references.filtered is None
  config.models.max_ent.run = False
  refused(config, "frozen.teacher: expected one of base, .*'max_ent'")


@pytest.mark.parametrize("field, value, message", WRONG_ADAPTERS)
def test_wrong_adapters_are_named(config, field, value, message):
  with config.unlocked():
    config.attacks.lora = builders.lora(config.attacks.relearn, rank=2)
  config.attacks.lora.options[field] = value
  refused(config, message)


@pytest.mark.parametrize(
  "entry, field, value, message",
  [
    # A pair's other answer is made of the method's own tokens: no task has to have one.
    (
      "models.idk_dpo",
      "options.answer",
      (99,),
      r"answer: expected token ids in \[0, 32",
    ),
    ("models.rep_select", "options.components", 97, "components: expected at most 96"),
    ("attacks.lora_48", "options.rank", 64, r"rank must lie in \[1, min\(in, out\)\]"),
    ("attacks.quantization", "options.group_size", 36, r"a divisor of .*\(96, 384\)"),
    ("attacks.gcg", "options.top_k", 33, "at most 32, the tokens of the vocabulary"),
    ("attacks.latent_push", "options.layer", 3, r"None or a layer in \[0, 3\)"),
  ],
)
def test_what_does_not_fit_a_model_is_named_where_it_is_run(
  config, entry, field, value, message
):
  with config.ignore_type():
    config.update_from_flattened_dict({f"{entry}.{field}": value})
  check(config)  # Not run, it is as if it were not there.
  config.update_from_flattened_dict({f"{entry}.run": True})
  refused(config, rf"^config.{entry}\..*{message}")


@pytest.mark.parametrize("field, value, message", WRONG_SALIENCY)
def test_a_wrong_shape_of_noise_is_named(field, value, message):
  config = overridden(models__undo__noise__saliency__by="saliency")
  check(config, data=8)
  config.update_from_flattened_dict({f"models.undo.noise.saliency.{field}": value})
  refused(config, message, data=8)


@pytest.mark.parametrize("field, value, message", WRONG_PREDICTIONS)
def test_what_predictions_cannot_teach_is_named(field, value, message):
  config = overridden(models__undo__teacher_predictions__keep=True)
  check(config)
  config.update_from_flattened_dict({f"models.undo.{field}": value})
  refused(config, message)


def test_predictions_at_a_temperature_are_of_all_tokens(config):
  config.models.undo.teacher_predictions.keep = True
  config.models.undo.options.temperature = 2.0
  check(config)
  config.models.undo.options.teacher_top_k = 8
  refused(config, "options.temperature: expected 1 where .*teacher_top_k=8 of 32 tok")


def test_what_is_no_distillation_keeps_no_predictions(config):
  config.models.max_ent.teacher_predictions.keep = True
  refused(config, "max_ent.teacher_predictions.keep: expected False, since max_ent is")


@pytest.mark.parametrize("field, value, message", WRONG_ROUTING)
def test_wrong_routing_is_named(routing, field, value, message):
  routing.update_from_flattened_dict({f"models.{field}": value})
  refused(routing, message)


def test_there_must_be_something_to_route(routing):
  config = routing
  for name in list(config.models):
    config.models[name].run = name in ("base", "sgtm", "max_ent", "data_filtering")
  models = config.models
  models.sgtm.labels.share = 0.25
  check(config)
  models.sgtm.labels.share = 0.001
  refused(config, "the part 'forget' gets a multiple .* rows, not 0")
  models.sgtm.labels.share = 0.25
  models.sgtm.num_microbatches = 32
  refused(config, "a multiple of num_microbatches x 1 .* 16")
  models.sgtm.num_microbatches = 1
  config.mixtures.pretrain.retain = 0.0
  refused(
    config, "pretrain: expected weight on forget, attack, which is routed, and on"
  )


def test_a_stop_rule_needs_its_options_and_a_teacher(config):
  config.models.base.stop.rule = "recovered"
  refused(config, "models.base.*tolerance: expected a value")
  with config.unlocked():
    config.models.base.stop.options = config.models.undo.stop.options
  refused(config, "stop.rule: expected None, since cross_entropy has no teacher")


def test_an_attack_must_relearn_what_was_forgotten(config):
  config.mixtures.attack.update(retain=0.5, attack=0.5)
  check(config)
  config.mixtures.attack.update(retain=1.0, attack=0.0)
  refused(config, "attack: expected weight on forget, attack: the att")


def test_what_fits_alone_may_not_fit_together(config):
  config.attacks.relearn.trainable = (("embedding", ()),)
  config.models.max_ent_sam.run = True
  check(config)
  config.models.max_ent_sam.objective = "rmu"
  refused(config, "'rmu' takes the options")
  config.models.max_ent_sam.objective = "forward_kl"
  refused(config, "max_ent_sam: objective 'forward_kl' takes the options")
  config.models.max_ent_sam.run = False
  with config.unlocked():
    config.attacks.lora = builders.lora(config.attacks.relearn, rank=2)
  refused(config, "attacks.lora.trainable: .* lora trains adapters")
  config.attacks.lora.run = False
  config.models.undo.options.update(kl_weight=0.0, activation_weight=1.0)
  refused(config, "kl_weight: expected above 0 where the student starts random")
  config.models.unlearn_and_distill.run = False
  check(config)


def test_adapters_of_the_largest_rank_pass(config):
  with config.unlocked():  # Keys and values: 96 -> 2 * 24.
    config.attacks.lora = builders.lora(config.attacks.relearn, rank=48)
  check(config)
  config.attacks.lora.options.rank = 49
  refused(config, r"attention/key/kernel \(3, 96, 48\)")


def write_tokenizer(directory, tokenizer, **named):
  directory.mkdir()
  tokenizer.save(str(directory / "tokenizer.json"))
  (directory / "config.json").write_text(json.dumps({"eos_token_id": 1} | named))
  return f"huggingface:{directory}"


@pytest.fixture
def byte_level(tmp_path):
  """Name a tokenizer file of one token a byte, ids 0 to 2 special, as `bytes`."""
  tokens = ["<pad>", "<eos>", "<bos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
  vocab = {token: index for index, token in enumerate(tokens)}
  tokenizer = hf.Tokenizer(models.BPE(vocab, []))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.post_processor = processors.TemplateProcessing(
    single="<bos> $A", special_tokens=[("<bos>", 2)]
  )
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
  check(config)
  config.data.sequence_length = enough - 1
  refused(config, f"at least {enough} with packing {packing}, the {which}")


def test_the_model_has_every_id_of_the_file(config, byte_level):
  config.data.tokenizer = byte_level()
  config.model.vocab_size = 258
  refused(config, "vocab_size: expected at least 259, .* 'huggingface:.*, got 258")


def test_a_missing_or_broken_tokenizer_file_is_named(config, tmp_path):
  config.data.tokenizer = f"sentencepiece:{tmp_path}"
  refused(config, f"no file {tmp_path}/tokenizer.model")
  (tmp_path / "tokenizer.model").write_bytes(b"no model")
  refused(config, "tokenizer.model cannot be read")


def test_a_tokenizer_that_cannot_write_the_equations_is_refused(config, tmp_path):
  words = hf.Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
  config.data.tokenizer = write_tokenizer(tmp_path / "words", words)
  refused(config, "back equations as they were, but '1 . 1 = 2'")


@pytest.mark.parametrize(
  "axes, message",
  [
    ({"data": 3}, "base.batch_size: expected a multiple of num_microbatches x 3"),
    ({"replica": 2}, "learning_rates: expected a number of rates that divides over"),
  ],
)
def test_what_does_not_divide_over_the_devices(config, axes, message):
  refused(config, message, **axes)


def test_an_unknown_size_names_the_known():
  with pytest.raises(ValueError, match="known are tiny, small"):
    builders.shipped("arithmetic:huge")
