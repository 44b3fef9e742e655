"""Our models under EleutherAI's lm-evaluation-harness, in place.

  from lm_eval import simple_evaluate
  from undo_jax.evaluation import harness

  model = harness.load("checkpoint")  # Or harness.make(config, params, tokenizer).
  results = simple_evaluate(model=model, tasks=["wmdp_bio"])

The harness (extra `lm-eval`) is imported at the first call. Tokens, truncation, stop
sequences and scores are those of its own backend for transformers (HFLM): texts begin
with BOS where the tokenizer has one; rolling windows and continuations without a
context are conditioned on BOS, else on EOS; so a text scored by rolling windows starts
with BOS twice, the second scored, as there. Conversations are written by the
checkpoint's chat template (chat.py), whose special tokens are read as such, and BOS
comes once. Two things differ. Text that spells a special token is text, unless a
template wrote it. Log-likelihoods come from float32 logits, and from float32 compute
unless the config says otherwise.

Reference: lm-evaluation-harness 0.4.13, lm_eval/models/huggingface.py.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation import chat as chat_templates
from undo_jax.evaluation import continuations, generation_settings
from undo_jax.evaluation.chat import ChatTemplate
from undo_jax.evaluation.generation_settings import Settings
from undo_jax.evaluation.scoring import Scorer
from undo_jax.models import config_values, huggingface
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.utils import extras, files
from undo_jax.utils.types import ConfigError, JsonObject, Params

NAME = "undo_jax"
DEFAULT_MAX_LENGTH = 2048  # HFLM's, where config.json has no max_position_embeddings.


def make(config: ModelConfig, params: Params, tokenizer: Tokenizer, **options) -> Any:
  """Return an lm_eval.api.model.LM over a model.

  Args:
    config: of the model.
    params: its parameters.
    tokenizer: of the model.
    **options: max_length, tokens the model reads at most (default 2048);
      batch_size, rows at once (8); add_bos_token, whether texts begin with BOS
      (None: if the tokenizer has one); prefix_token_id, what text without a context
      is conditioned on (None: BOS, else EOS); stop_ids, ids that end a generation
      beside EOS (none); seed, of sampled text (0); name, in the harness's
      results and caches.

  Raises:
    ConfigError: if lm_eval is not installed, or the tokenizer has ids that the model
      has no embedding for.
    ValueError: if an option makes no sense.
  """
  return model_class()(config, params, tokenizer, **options)


def load(
  directory: str | os.PathLike,
  *,
  tokenizer: str | None = None,
  dtype: str = "float32",
  **options,
) -> Any:
  """Return an lm_eval.api.model.LM over a checkpoint; see models/huggingface.py.

  Args:
    directory: of the checkpoint.
    tokenizer: a name as for data.tokenizers.make; None: the tokenizer.json in the
      directory.
    dtype: of the compute, "float32" or "bfloat16".
    **options: as for `make`. By default max_length is max_position_embeddings of
      config.json, and stop_ids eos_token_id of generation_config.json, else of
      config.json, as in transformers.

  Raises:
    ConfigError: if the checkpoint or tokenizer cannot be read, or as `make`.
    ValueError: if an option makes no sense.
  """
  directory = pathlib.Path(directory)
  settings = huggingface.read_settings(directory)
  path = directory / "generation_config.json"
  generation = files.read_optional(path)
  length = config_values.whole(settings, "max_position_embeddings", DEFAULT_MAX_LENGTH)
  defaults = {
    "max_length": length,
    "stop_ids": continuations.eos_ids(generation, settings, directory),
    "name": str(directory),
    "chat": chat_templates.read(directory),
  }
  named = f"huggingface:{directory}" if tokenizer is None else tokenizer
  loaded_tokenizer = tokenizers.make(named)
  config, params = huggingface.load(directory)
  config = dataclasses.replace(config, dtype=dtype)
  return make(config, params, loaded_tokenizer, **(defaults | options))


def evaluate(
  load_model: Callable[[], Any],
  names: Sequence[str],
  *,
  include: str | None = None,
  **options: object,
) -> tuple[str, str]:
  """Score a model on tasks of the harness.

  Args:
    load_model: returns the model; called once the tasks are known to exist.
    names: of tasks or groups.
    include: a directory of further tasks.
    **options: of lm_eval.simple_evaluate.

  Returns:
    The harness's table, and its results as JSON.

  Raises:
    ConfigError: if lm_eval is not installed or knows no such task.
  """
  model_class()  # Says what is missing.
  import lm_eval  # pyright: ignore
  from lm_eval.tasks import TaskManager  # pyright: ignore
  from lm_eval.utils import handle_non_serializable, make_table  # pyright: ignore

  tasks = TaskManager(include_path=include)
  unknown = [name for name in names if not tasks.match_tasks([name])]
  if unknown:
    raise ConfigError(f"--tasks: the harness knows no {', '.join(unknown)}")
  scored = lm_eval.simple_evaluate(
    model=load_model(),
    tasks=list(names),
    task_manager=tasks,
    log_samples=False,
    **options,
  )
  return make_table(scored), json.dumps(
    scored, indent=2, default=handle_non_serializable
  )


@functools.cache
def model_class() -> Any:
  """Return the class of our models, a TemplateLM; the harness knows it by `NAME`.

  Raises:
    ConfigError: if lm_eval is not installed.
  """
  try:
    from lm_eval.api.model import TemplateLM  # pyright: ignore
    from lm_eval.api.registry import register_model  # pyright: ignore

    # Else the first name in its registry would hide all others.
    import lm_eval.models  # noqa: F401  # pyright: ignore
  except ImportError as error:
    raise extras.needed("lm-eval", error) from None
  return register_model(NAME)(type("UndoLM", (_Methods, TemplateLM), {}))


class _Methods:
  """What lm_eval's TemplateLM leaves to its models."""

  tokenizer: Any
  cache_hook: Any

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    *,
    max_length: int = DEFAULT_MAX_LENGTH,
    batch_size: int = 8,
    add_bos_token: bool | None = None,
    prefix_token_id: int | None = None,
    stop_ids: Sequence[int] = (),
    seed: int = 0,
    name: str = NAME,
    chat: ChatTemplate | None = None,
  ):
    super().__init__()
    if tokenizer.vocab_size > config.vocab_size:
      raise ConfigError(
        f"the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model embeddings "
        f"for {config.vocab_size}; give the tokenizer that the model was trained with"
      )
    if add_bos_token and tokenizer.bos_id is None:
      raise ConfigError("add_bos_token: the tokenizer has no BOS; leave it at None")
    self.tokenizer = tokenizer
    self.max_length = max_length
    self.max_gen_toks = 256  # Where a task does not say.
    self.batch_size = batch_size
    self._scorer = Scorer(
      Decoder(config), params, max_length=max_length, batch_size=batch_size
    )
    self._num_params = sum(leaf.size for leaf in jax.tree.leaves(params))
    self._config = config
    self._add_bos = tokenizer.bos_id is not None
    if add_bos_token is not None:
      self._add_bos = add_bos_token
    self._prefix_token_id = prefix_token_id
    self._stop_ids = (tokenizer.eos_id, *stop_ids)
    self._key = jax.random.key(seed)
    self._name = name
    self._chat = chat
    self._is_chatting = False  # Whether a template has written the texts.

  @classmethod
  def create_from_arg_obj(cls, arg_dict, additional_config=None):
    """Load what `--model_args checkpoint=DIR,...` asks for; see `load`."""
    options = {**arg_dict, **(additional_config or {})}
    for key in ("device", "max_batch_size", "batch_size"):  # None: not given.
      if options.get(key) is None or key != "batch_size":
        options.pop(key, None)
    if "checkpoint" not in options:
      raise ConfigError(
        f"the model {NAME} needs a checkpoint directory, got {sorted(options)}; give "
        "model_args checkpoint=DIR"
      )
    if "batch_size" in options:
      options["batch_size"] = _whole(options["batch_size"])
    return load(options.pop("checkpoint"), **options)

  @classmethod
  def create_from_arg_string(cls, arg_string, additional_config=None):
    """Likewise, from key=value,..."""
    from lm_eval.utils import simple_parse_args_string  # pyright: ignore

    return cls.create_from_arg_obj(
      simple_parse_args_string(arg_string), additional_config
    )

  @property
  def eot_token_id(self) -> int:
    """The id that ends a text."""
    return self.tokenizer.eos_id

  @property
  def prefix_token_id(self) -> int:
    """The id that a text without a context is conditioned on."""
    if self._prefix_token_id is not None:
      return self._prefix_token_id
    bos = self.tokenizer.bos_id
    return self.tokenizer.eos_id if bos is None else bos

  @property
  def tokenizer_name(self) -> str:
    """The name in the harness's cache of requests."""
    return self._name.replace("/", "__")

  def get_model_info(self) -> JsonObject:
    """Return what the harness writes beside its results."""
    return {
      "model_num_parameters": self._num_params,
      "model_dtype": self._config.dtype,
      "model_checkpoint": self._name,
    }

  def tok_encode(self, string, add_special_tokens=None, **kwargs) -> list[int]:
    """Return the ids of a text, BOS first unless that is off."""
    del kwargs
    encode, bos = self.tokenizer.encode, self.tokenizer.bos_id
    add_bos = self._add_bos if add_special_tokens is None else add_special_tokens
    if self._is_chatting:
      encode = self.tokenizer.encode_chat
      if bos is not None and string.startswith(self.tokenizer.spelled(bos)):
        add_bos = False  # The template has written it.
    return ([bos] if add_bos and bos is not None else []) + encode(string)

  def chat_template(self, chat_template: bool | str = False) -> str | None:
    """Return the template's source if it is asked for; the harness records it."""
    return self._template().source if chat_template else None

  def apply_chat_template(self, chat_history, add_generation_prompt=True) -> str:
    """Return a conversation as the checkpoint's template writes it."""
    template = self._template()
    self._is_chatting = True
    return template.render(chat_history, begins_answer=add_generation_prompt)

  def _template(self) -> ChatTemplate:
    if self._chat is None or not hasattr(self.tokenizer, "encode_chat"):
      raise ConfigError(
        f"--apply_chat_template: {self._name} has no chat template; expected "
        "chat_template.jinja, or one in tokenizer_config.json, beside its "
        "tokenizer.json"
      )
    return self._chat

  def loglikelihood(self, requests, disable_tqdm=False):
    """Score (context, continuation) texts: [(nats, is the most likely text)]."""
    for request in requests:
      if not request.args[1]:
        raise ValueError(
          "a continuation needs at least one character, got an empty one after the "
          f"context {request.args[0][-80:]!r}; mend the task"
        )
    parent: Any = super()
    return parent.loglikelihood(requests, disable_tqdm=disable_tqdm)

  def _loglikelihood_tokens(self, requests, disable_tqdm=False, **kwargs):
    del kwargs
    pairs = [(context, continuation) for _, context, continuation in requests]
    scores = self._scorer.log_likelihoods(pairs, progress=not disable_tqdm)
    for (texts, _, _), answer in zip(requests, scores, strict=True):
      if texts is not None:  # Not a window of a longer text.
        self.cache_hook.add_partial("loglikelihood", texts, answer)
    return scores

  def loglikelihood_rolling(self, requests, disable_tqdm=False) -> list[float]:
    """Score whole texts, window by window: [nats]."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # pyright: ignore

    windows, owners = [], []
    for index, request in enumerate(requests):
      for window in get_rolling_token_windows(
        token_list=self.tok_encode(request.args[0]),
        prefix_token=self.prefix_token_id,
        max_seq_len=self.max_length,
        context_len=1,
      ):
        windows.append((None, *make_disjoint_window(window)))
        owners.append(index)
    totals = [0.0] * len(requests)
    scores = self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
    for index, (nats, _) in zip(owners, scores, strict=True):
      totals[index] += nats
    for request, total in zip(requests, totals, strict=True):
      self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
    return totals

  def generate_until(self, requests, disable_tqdm=False) -> list[str]:
    """Continue texts up to a stop sequence, which is left out: [text]."""
    groups: dict[Settings, list[int]] = {}
    for index, request in enumerate(requests):
      groups.setdefault(generation_settings.read(request.args[1], self), []).append(
        index
      )
    texts: list[Any] = [None] * len(requests)
    for settings, indices in groups.items():
      room = self.max_length - settings.num_tokens
      prompts = []
      for index in indices:
        ids = self.tok_encode(requests[index].args[0]) or [self.prefix_token_id]
        prompts.append(ids[-room:])
      generated = self._scorer.generate(
        prompts,
        num_tokens=settings.num_tokens,
        temperature=settings.temperature,
        is_stop_V=self._ends(settings.until),
        key=self._key,
        progress=not disable_tqdm,
      )
      for index, ids in zip(indices, generated, strict=True):
        texts[index] = self._text(ids, settings.until)
        request = requests[index]
        self.cache_hook.add_partial("generate_until", request.args, texts[index])
    return texts

  def _text(self, ids, until) -> str:
    """Return the text before the first stop sequence."""
    text = self.tokenizer.decode(ids)
    for stop in until:
      text = text.split(stop)[0]
    return text

  @functools.cached_property
  def _pieces(self) -> list[str]:
    return [self.tokenizer.decode([i]) for i in range(self.tokenizer.vocab_size)]

  def _ends(self, until: Sequence[str]) -> np.ndarray:
    """Return the ids that end a text: bool [V], EOS and what spells a stop sequence.

    Sequences of several tokens end nothing early; they are cut off afterwards.
    """
    is_stop_V = np.zeros(self._config.vocab_size, bool)
    is_stop_V[list(self._stop_ids)] = True
    # Part of a character alone is spelled so; with its other parts it is not.
    until = [stop for stop in until if "\ufffd" not in stop]
    if until:
      spelled = [any(stop in piece for stop in until) for piece in self._pieces]
      is_stop_V[: len(spelled)] |= spelled
    return is_stop_V


def _whole(value: Any) -> int:
  try:
    return int(value)
  except (TypeError, ValueError):
    raise ConfigError(
      f"batch_size must be a whole number, got {value!r}; auto is not supported"
    ) from None
