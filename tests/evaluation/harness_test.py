"""Our models under lm-evaluation-harness against its own backend for transformers.

Both see the same checkpoint, tokenizer.json and tasks (harness_task/, local files).
Runs where torch, transformers and lm_eval are installed; scoring_test.py covers what
needs none of them.
"""

import json
import pathlib
import sys
import types

import jax
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.evaluation import chat, harness
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASKS = ROOT / "tests" / "evaluation" / "harness_task"
NAMES = ["undo_jax_choice", "undo_jax_perplexity", "undo_jax_continuation"]
SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
MAX_LENGTH = 96
CHAT = (
  "{{ bos_token if bos_token }}"
  "{% for message in messages %}{{ message.role + ': ' + message.content + eos_token }}"
  "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
MESSAGES = [
  {"role": "user", "content": "What is 3 + 4?"},
  {"role": "assistant", "content": "It is"},
]
# Like Gemma's: BOS first. Like Qwen's: no BOS at all.
KINDS = {"gemma2": SPECIAL, "qwen2": SPECIAL | {"bos_token": None}}


class JsonTokenizer:
  """A tokenizer.json as the harness needs it, by the library `tokenizers` alone."""

  def __init__(self, directory):
    import tokenizers

    self._tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    named = json.loads((directory / "tokenizer_config.json").read_text())
    self.pad_id, self.eos_id, self.bos_id = (
      named[key] and self._tokenizer.token_to_id(named[key]) for key in SPECIAL
    )
    self.vocab_size = self._tokenizer.get_vocab_size()

  def encode(self, text):
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids):
    return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def write_checkpoint(directory, model_type):
  """Write a small model of random weights and a tokenizer trained on the tasks."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, processors, trainers
  import torch
  import transformers

  lines = [line for path in TASKS.glob("*.jsonl") for line in path.open()]
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=340,
    special_tokens=list(SPECIAL.values()),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(lines, trainer)
  special = KINDS[model_type]
  if special["bos_token"]:
    tokenizer.post_processor = processors.TemplateProcessing(
      single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
  named = {key: value for key, value in special.items() if value}
  transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named
  ).save_pretrained(directory)
  settings = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
  }
  (directory / "tokenizer_config.json").write_text(json.dumps(special | settings))
  sizes = {
    "vocab_size": 352,  # More than the tokenizer has, as is common.
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH,
    "eos_token_id": tokenizer.token_to_id("<eos>"),
  }
  if model_type == "gemma2":
    sizes |= {"head_dim": 8, "sliding_window": 24, "query_pre_attn_scalar": 8}
  config = transformers.AutoConfig.for_model(model_type, **sizes)
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      std = 0.3 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
      is_plain_norm = "norm" in key and model_type != "gemma2"
      parameter.normal_(1.0 if is_plain_norm else 0.0, std)
  model.save_pretrained(directory)
  (directory / "generation_config.json").unlink(missing_ok=True)


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
  """(checkpoint directory, what the harness found with HFLM, with us, our model)."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  pytest.importorskip("lm_eval")
  import datasets
  import lm_eval
  from lm_eval.models.huggingface import HFLM
  from lm_eval.tasks import TaskManager
  import transformers

  directory = tmp_path_factory.mktemp(request.param)
  write_checkpoint(directory, request.param)
  theirs = HFLM(
    pretrained=str(directory),
    # The file's own: AutoTokenizer would split words as the real Qwen-2 does.
    tokenizer=transformers.PreTrainedTokenizerFast.from_pretrained(directory),
    dtype="float32",
    device="cpu",
    batch_size=3,
    attn_implementation="eager",
  )
  config, params = huggingface.load(directory)
  ours = harness.make(
    config,
    params,
    JsonTokenizer(directory),
    max_length=MAX_LENGTH,
    batch_size=4,
  )
  tasks = TaskManager(include_path=str(TASKS), include_defaults=False)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    patch.setattr(
      datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets")
    )
    results = [
      lm_eval.simple_evaluate(
        model=model, tasks=NAMES, task_manager=tasks, bootstrap_iters=0
      )
      for model in (theirs, ours)
    ]
  return types.SimpleNamespace(
    kind=request.param, directory=directory, theirs=theirs, ours=ours, results=results
  )


def responses(results, task):
  """The raw answers to a task's requests, question by question."""
  samples = sorted(results["samples"][task], key=lambda s: s["doc_id"])
  return [s["resps"] for s in samples]


def test_the_tokenizer_is_the_harness_own(both):
  for line in ("", " a", "Die Straße ", "What is 3 + 4?\nAnswer:"):
    assert both.ours.tok_encode(line) == both.theirs.tok_encode(line)
    for add in (False, True):
      kwargs = {"add_special_tokens": add}
      assert both.ours.tok_encode(line, **kwargs) == both.theirs.tok_encode(
        line, **kwargs
      )
  assert both.ours.tok_encode("a")[:-1] == ([2] if both.kind == "gemma2" else [])
  for name in ("eot_token_id", "prefix_token_id", "max_length"):
    assert getattr(both.ours, name) == getattr(both.theirs, name)


def test_chats_are_those_of_hflm_token_for_token(both):
  special = {key: value for key, value in KINDS[both.kind].items() if value}
  ours = harness.make(
    *huggingface.load(both.directory),
    tokenizers.make(f"huggingface:{both.directory}"),
    max_length=MAX_LENGTH,
    chat=chat.ChatTemplate(CHAT, special),
  )
  theirs = both.theirs
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(theirs.tokenizer, "chat_template", CHAT)
    assert ours.chat_template(True) == theirs.chat_template(True) == CHAT
    assert ours.chat_template(False) is None
    for messages, asks in ((MESSAGES[:1], True), (MESSAGES, False)):
      texts = [x.apply_chat_template(messages, asks) for x in (ours, theirs)]
      assert texts[0] == texts[1]
      ids = [x.tok_encode(texts[0]) for x in (ours, theirs)]
      assert ids[0] == ids[1] and ours.tokenizer.eos_id in ids[0]
      assert ours.loglikelihood(
        [types.SimpleNamespace(args=(texts[0], " 7"))], disable_tqdm=True
      )[0][0] == pytest.approx(
        theirs.loglikelihood(
          [types.SimpleNamespace(args=(texts[0], " 7"))], disable_tqdm=True
        )[0][0],
        abs=1e-4,
      )
  with pytest.raises(ConfigError, match="has no chat template"):
    both.ours.apply_chat_template(MESSAGES)


def test_log_likelihoods_and_choices_are_those_of_hflm(both):
  theirs, ours = (responses(results, NAMES[0]) for results in both.results)
  assert len(ours) == 28
  for question, (expected, got) in enumerate(zip(theirs, ours, strict=True)):
    expected, got = ([r[0] for r in answers] for answers in (expected, got))
    assert len(got) == 4
    np.testing.assert_allclose(
      [g[0] for g in got], [e[0] for e in expected], atol=1e-3, err_msg=str(question)
    )
    assert [g[1] for g in got] == [e[1] for e in expected]
    assert np.argmax([g[0] for g in got]) == np.argmax([e[0] for e in expected])
  for metric in ("acc,none", "acc_norm,none"):
    scores = [results["results"][NAMES[0]][metric] for results in both.results]
    assert scores[0] == scores[1]
    assert 0 < scores[1] < 1


def test_rolling_log_likelihoods_are_those_of_hflm(both):
  theirs, ours = (responses(results, NAMES[1]) for results in both.results)
  np.testing.assert_allclose(np.ravel(ours), np.ravel(theirs), atol=1e-3, rtol=1e-6)
  # One text takes several windows, one has a single token.
  lengths = [len(both.ours.tok_encode(t)) for t in texts()]
  assert max(lengths) > MAX_LENGTH and min(lengths) <= 2
  for metric in ("word_perplexity,none", "byte_perplexity,none"):
    scores = [results["results"][NAMES[1]][metric] for results in both.results]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4)


def texts():
  lines = (TASKS / "text.jsonl").read_text().splitlines()
  return [json.loads(line)["text"] for line in lines]


def test_generated_texts_are_those_of_hflm(both):
  theirs, ours = (responses(results, NAMES[2]) for results in both.results)
  assert ours == theirs
  texts = [answer[0][0] for answer in ours]
  assert len(set(texts)) == len(texts) == 6


def test_stop_sequences_cut_the_text_as_by_hflm(both):
  """Those that the model does write: two characters from the middle of each text."""
  kwargs = {"until": [], "max_gen_toks": 20, "do_sample": False}
  prompts = texts()[:4]
  free = both.ours.generate_until(
    [request(prompt, kwargs) for prompt in prompts], disable_tqdm=True
  )
  stops = [text[len(text) // 2 :][:2] for text in free]
  requests = [
    request(prompt, kwargs | {"until": [stop, "never written"]})
    for prompt, stop in zip(prompts, stops, strict=True)
  ]
  expected = both.theirs.generate_until(requests, disable_tqdm=True)
  assert both.ours.generate_until(requests, disable_tqdm=True) == expected
  assert all(
    stop and stop not in text for stop, text in zip(stops, expected, strict=True)
  )
  assert all(len(text) < len(whole) for text, whole in zip(expected, free, strict=True))


def test_contexts_that_are_empty_or_too_long_are_scored_as_by_hflm(both):
  long = " ".join(str(7 * number * number) for number in range(60))
  pairs = [("", "The river"), ("", "a"), (long, " four"), ("ends in spaces  ", "x")]
  requests = [types.SimpleNamespace(args=pair, task_name=None) for pair in pairs]
  expected = both.theirs.loglikelihood(requests, disable_tqdm=True)
  got = both.ours.loglikelihood(requests, disable_tqdm=True)
  np.testing.assert_allclose([g[0] for g in got], [e[0] for e in expected], atol=1e-3)
  assert [g[1] for g in got] == [e[1] for e in expected]
  until = {"until": [], "max_gen_toks": 8, "do_sample": False}
  requests = [types.SimpleNamespace(args=(text, until)) for text in (long, "The ")]
  expected = both.theirs.generate_until(requests, disable_tqdm=True)
  assert both.ours.generate_until(requests, disable_tqdm=True) == expected


def test_a_stop_sequence_ends_the_loop_early(both):
  """The ids that spell it end a row on the device, not only in the text."""
  ends = both.ours._ends(("e",))
  tokenizer = both.ours.tokenizer
  expected = {i for i in range(tokenizer.vocab_size) if "e" in tokenizer.decode([i])}
  assert {int(i) for i in np.flatnonzero(ends)} == expected | {tokenizer.eos_id}
  assert len(expected) > 3


def test_results_are_cached_by_the_harness(both):
  seen = []
  hook = types.SimpleNamespace(add_partial=lambda *entry: seen.append(entry))
  kwargs = {"until": [], "max_gen_toks": 2}
  both.ours.cache_hook, old = hook, both.ours.cache_hook
  try:
    pair = types.SimpleNamespace(args=("The ", "river"))
    (score,) = both.ours.loglikelihood([pair], disable_tqdm=True)
    whole = types.SimpleNamespace(args=("river",))
    (nats,) = both.ours.loglikelihood_rolling([whole], disable_tqdm=True)
    prompt = types.SimpleNamespace(args=("The ", kwargs))
    (text,) = both.ours.generate_until([prompt], disable_tqdm=True)
  finally:
    both.ours.cache_hook = old
  assert seen == [
    ("loglikelihood", ("The ", "river"), score),
    ("loglikelihood_rolling", ("river",), nats),
    ("generate_until", ("The ", kwargs), text),
  ]


def test_a_checkpoint_directory_brings_its_tokenizer(both):
  from lm_eval.api.registry import get_model

  made = harness.load(both.directory, batch_size=2)
  named = get_model("undo_jax").create_from_arg_string(
    f"checkpoint={both.directory}", {"batch_size": "2", "device": "cpu"}
  )
  request = types.SimpleNamespace(args=("What is 3 + 4?\nAnswer:", " 7"))
  (expected,) = both.ours.loglikelihood([request], disable_tqdm=True)
  for model in (made, named):
    assert model.get_model_info()["model_checkpoint"] == str(both.directory)
    assert model.max_length == MAX_LENGTH and model.batch_size == 2
    (got,) = model.loglikelihood([request], disable_tqdm=True)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-5)


# ---- Without a checkpoint.


@pytest.fixture
def tiny():
  pytest.importorskip("lm_eval")
  config = testing.config(vocab_size=ByteTokenizer.vocab_size)
  return config, jax.jit(Decoder(config).init)(jax.random.key(0))


def request(*args):
  return types.SimpleNamespace(args=args)


def test_a_byte_tokenizer_serves_too(tiny):
  """Score by the definition: one unpadded pass, softmax in float64."""
  config, params = tiny
  model = harness.make(config, params, ByteTokenizer(), max_length=32)
  ids = [2, *(b + 3 for b in b"ab")], [b + 3 for b in b"cd"]
  ((nats, _),) = model.loglikelihood([request("ab", "cd")], disable_tqdm=True)
  tokens = np.asarray([ids[0] + ids[1][:-1]])
  logits = np.asarray(Decoder(config).apply(params, tokens).logits[0, -2:], np.float64)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  np.testing.assert_allclose(nats, log_p[[0, 1], ids[1]].sum(), atol=1e-5)
  assert model.get_model_info() == {
    "model_num_parameters": sum(x.size for x in jax.tree.leaves(params)),
    "model_dtype": "float32",
    "model_checkpoint": "undo_jax",
  }


def test_bos_and_the_prefix_can_be_chosen(tiny):
  model = harness.make(*tiny, ByteTokenizer(), add_bos_token=False, prefix_token_id=7)
  assert model.tok_encode("a") == [ord("a") + 3]
  assert model.prefix_token_id == 7
  assert harness.make(*tiny, ByteTokenizer()).prefix_token_id == 2


def test_sampling_repeats_with_the_seed(tiny):
  kwargs = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 20}
  texts = [
    harness.make(*tiny, ByteTokenizer(), seed=seed).generate_until(
      [request("a", kwargs)], disable_tqdm=True
    )
    for seed in (0, 0, 1)
  ]
  assert texts[0] == texts[1]
  assert texts[0] != texts[2]


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"num_beams": 4}, "got also {'num_beams': 4}; remove it"),
    ({"temperature": 1.0, "top_p": 0.5}, "got also {'top_p': 0.5}"),
    ({"max_gen_toks": 64}, "from 1 to 31, less than max_length, got 64; set max_gen"),
    ({"do_sample": True, "max_gen_toks": 4}, "do_sample needs a temperature > 0"),
  ],
)
def test_generation_options_that_cannot_be_served_are_refused(tiny, kwargs, message):
  model = harness.make(*tiny, ByteTokenizer(), max_length=32)
  with pytest.raises(ValueError, match=message):
    model.generate_until([request("a", {"max_gen_toks": 4} | kwargs)])


def test_sampling_options_do_not_matter_where_nothing_is_drawn(tiny):
  model = harness.make(*tiny, ByteTokenizer(), max_length=32)
  plain = {"max_gen_toks": 4}
  greedy = plain | {"do_sample": False, "temperature": 0.7, "top_p": 0.5}
  expected = model.generate_until([request("a", plain)], disable_tqdm=True)
  assert model.generate_until([request("a", greedy)], disable_tqdm=True) == expected


def test_an_empty_continuation_is_refused(tiny):
  model = harness.make(*tiny, ByteTokenizer())
  for context in ("", "a"):
    with pytest.raises(ValueError, match="continuation needs at least one character"):
      model.loglikelihood([request(context, "")], disable_tqdm=True)


def test_a_larger_vocabulary_than_the_models_is_refused():
  pytest.importorskip("lm_eval")
  config = testing.config(vocab_size=258)
  with pytest.raises(ConfigError, match="ids up to 258, the model embeddings for 258"):
    harness.make(config, {}, ByteTokenizer())


def test_wrong_model_args_are_one_clear_line(tiny):
  from lm_eval.api.registry import get_model

  harness.model_class()
  create = get_model("undo_jax").create_from_arg_obj
  with pytest.raises(ConfigError, match="needs a checkpoint directory, got"):
    create({"pretrained": "x"}, {"device": None})
  with pytest.raises(
    ConfigError, match="batch_size must be a whole number, got 'auto'"
  ):
    create({"checkpoint": "x"}, {"batch_size": "auto"})


def test_a_missing_harness_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "lm_eval", None)
  monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
  harness.model_class.cache_clear()
  try:
    with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[lm-eval\]'"):
      harness.make(testing.config(), {}, ByteTokenizer())
  finally:
    harness.model_class.cache_clear()
