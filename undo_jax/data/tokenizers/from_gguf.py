"""Tokenizers of GGUF files: the tokenizer.json that gives the same ids.

A GGUF file holds the tokens with their types, and merges (byte-level BPE, model
"gpt2") or scores (SentencePiece's BPE, model "llama"); how text is cut beforehand it
says by a name alone.
"""

import json
import pathlib

import tokenizers as library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject

# Types of tokens.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# The pattern that cuts text of Llama 3 and Qwen 2: numbers of up to 3 and of 1 digit.
_CUT = (
  rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,DIGITS}}|"
  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2(*before: pre_tokenizers.PreTokenizer) -> pre_tokenizers.PreTokenizer:
  last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
  return pre_tokenizers.Sequence([*before, last])


def _by_pattern(digits: int) -> pre_tokenizers.PreTokenizer:
  pattern = library.Regex(_CUT.replace("DIGITS", str(digits)))
  return pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(pattern, behavior="isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )


# What `tokenizer.ggml.pre` says of how text is cut.
CUTS = {
  "gpt-2": _gpt2,
  "smollm": lambda: _gpt2(pre_tokenizers.Digits(individual_digits=True)),
  "llama-bpe": lambda: _by_pattern(3),
  "llama3": lambda: _by_pattern(3),
  "qwen2": lambda: _by_pattern(1),
}

# A special token's name in tokenizer_config.json, and its field.
ROLES = (
  ("bos_token", "bos_token_id"),
  ("eos_token", "eos_token_id"),
  ("unk_token", "unknown_token_id"),
  ("pad_token", "padding_token_id"),
)


def write(fields: JsonObject, directory: pathlib.Path, *, path: str) -> None:
  """Write tokenizer.json and tokenizer_config.json, the chat template in it.

  Args:
    fields: the metadata of a GGUF file.
    directory: an existing one.
    path: of the file, for messages.

  Raises:
    ConfigError: if there is no tokenizer, or it is of a kind that is not known.
  """
  tokens = fields.get("tokenizer.ggml.tokens")
  if not isinstance(tokens, list) or not tokens:
    raise ConfigError(f"{path} holds no tokenizer: no tokenizer.ggml.tokens")
  if len({*tokens}) < len(tokens):
    raise ConfigError(f"{path}: tokenizer.ggml.tokens names a token twice")
  types = fields.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
  if len(types) != len(tokens):
    raise ConfigError(f"{path}: tokenizer.ggml.token_type must have one for each token")
  kind = fields.get("tokenizer.ggml.model")
  if kind == "gpt2":
    tokenizer = _byte_level(fields, tokens, path)
  elif kind == "llama":
    tokenizer = _by_scores(fields, tokens, types, path)
  else:
    raise ConfigError(
      f"{path}: the tokenizer is of the kind {kind!r}; only gpt2 (byte-level BPE) and "
      "llama (SentencePiece's BPE) can be read"
    )
  added = [
    library.AddedToken(token, special=kind == _CONTROL, normalized=False)
    for token, kind in zip(tokens, types, strict=True)
    if kind in (_CONTROL, _USER_DEFINED)
  ]
  tokenizer.add_tokens(added)
  (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), "utf-8")
  config = json.dumps(_named(fields, tokens), indent=2, ensure_ascii=False)
  (directory / "tokenizer_config.json").write_text(config + "\n", "utf-8")


def _byte_level(fields, tokens: list[str], path: str) -> library.Tokenizer:
  name = fields.get("tokenizer.ggml.pre", "gpt-2")
  if name not in CUTS:
    raise ConfigError(
      f"{path}: the tokenizer cuts text as {name!r} does; only {', '.join(CUTS)} are "
      "known"
    )
  vocabulary = {token: index for index, token in enumerate(tokens)}
  merges = [tuple(m.split(" ", 1)) for m in fields.get("tokenizer.ggml.merges", ())]
  for merge in merges:
    if len(merge) != 2 or not {*merge, "".join(merge)} <= vocabulary.keys():
      raise ConfigError(
        f"{path}: tokenizer.ggml.merges joins {' and '.join(merge)!r}, which with "
        "what they give must be tokens"
      )
  tokenizer = library.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
  tokenizer.pre_tokenizer = CUTS[name]()
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _by_scores(
  fields, tokens: list[str], types: list[int], path: str
) -> library.Tokenizer:
  """Make SentencePiece's BPE, which joins the pair whose piece has the best score."""
  scores = fields.get("tokenizer.ggml.scores")
  if scores is None or len(scores) != len(tokens):
    raise ConfigError(f"{path}: tokenizer.ggml.scores must have one for each token")
  vocabulary = {token: index for index, token in enumerate(tokens)}
  pairs = []
  for token, kind in zip(tokens, types, strict=True):
    if kind != _NORMAL:
      continue
    for cut in range(1, len(token)):
      left, right = token[:cut], token[cut:]
      if left in vocabulary and right in vocabulary:
        pairs.append((left, right))
  pairs.sort(
    key=lambda pair: (
      -scores[vocabulary["".join(pair)]],
      vocabulary[pair[0]],
      vocabulary[pair[1]],
    )
  )
  unknown = fields.get("tokenizer.ggml.unknown_token_id", 0)
  if not isinstance(unknown, int) or not 0 <= unknown < len(tokens):
    raise ConfigError(
      f"{path}: tokenizer.ggml.unknown_token_id must be in [0, {len(tokens)}), got "
      f"{unknown!r}"
    )
  tokenizer = library.Tokenizer(
    models.BPE(
      vocab=vocabulary,
      merges=pairs,
      unk_token=tokens[unknown],
      fuse_unk=True,
      byte_fallback="<0x00>" in vocabulary,
    )
  )
  space = "\u2581"  # SentencePiece's mark of a space.
  prefix = fields.get("tokenizer.ggml.add_space_prefix", True)
  tokenizer.normalizer = normalizers.Sequence(
    [
      *([normalizers.Prepend(space)] if prefix else []),
      normalizers.Replace(" ", space),
    ]
  )
  tokenizer.decoder = decoders.Sequence(
    [
      decoders.Replace(space, " "),
      decoders.ByteFallback(),
      decoders.Fuse(),
      *([decoders.Strip(" ", 1, 0)] if prefix else []),
    ]
  )
  return tokenizer


def _named(fields: JsonObject, tokens: list[str]) -> JsonObject:
  """Return the tokenizer_config.json: which tokens are special, and the template."""
  named: JsonObject = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    "add_bos_token": bool(
      fields.get(
        "tokenizer.ggml.add_bos_token", fields["tokenizer.ggml.model"] == "llama"
      )
    ),
  }
  for role, field in ROLES:
    number = fields.get(f"tokenizer.ggml.{field}")
    if isinstance(number, int) and 0 <= number < len(tokens):
      named[role] = tokens[number]
  template = fields.get("tokenizer.chat_template")
  if isinstance(template, str):
    named["chat_template"] = template
  return named
