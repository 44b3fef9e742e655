"""Export of tokenizers: the files with which transformers opens them."""

from collections.abc import Sequence
import json
import os
import pathlib
import shutil
from typing import Any

from sentencepiece import sentencepiece_model_pb2
import tokenizers as library

from undo_jax.data import facts_words, tokenizers
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

# What stands beside a tokenizer's file and tells transformers about it.
_BESIDE = (
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
)
_TEMPLATES = "additional_chat_templates"  # A folder of chat templates with names.
# The tokenizer of a tokenizer.json once more, for those who read no such file.
_OTHER_FORMS = ("tokenizer.model", "vocab.json", "merges.txt")


def write(name: str, directory: pathlib.Path) -> None:
  """Write the files of a tokenizer into an existing directory.

  The files of a tokenizer from files are copied; characters, words and
  bytes become a tokenizer.json that gives the same ids.

  Args:
    name: as for tokenizers.make.
    directory: where to.

  Raises:
    ConfigError: if there is no tokenizer of this name.
  """
  tokenizer = tokenizers.make(name)
  kind, _, rest = name.partition(":")
  if kind in tokenizers.FILES:
    _copy(kind, pathlib.Path(rest).expanduser(), directory)
  elif isinstance(tokenizer, tokenizers.CharacterTokenizer):
    _write(_characters(tokenizers.ALPHABETS[rest]), directory, _NAMED)
  elif isinstance(tokenizer, tokenizers.WordTokenizer):
    _write(_words(tokenizer.tokens), directory, _NAMED)
  else:
    _write(_bytes(), directory, _NAMED)


def copy(checkpoint: pathlib.Path, directory: pathlib.Path) -> None:
  """Copy what tokenizer files a Hugging Face directory has.

  Raises:
    ConfigError: if something else is there by the name of one, or a link to nothing.
  """
  _copy_files(checkpoint, directory, ("tokenizer.json", *_OTHER_FORMS, *_BESIDE))


def _copy(kind, path, directory):
  name = "tokenizer.model" if kind == "sentencepiece" else "tokenizer.json"
  file = path / name if path.is_dir() else path
  shutil.copyfile(file, directory / name)
  forms = _OTHER_FORMS if file.name == "tokenizer.json" else ()
  _copy_files(file.parent, directory, (*forms, *_BESIDE))
  if kind == "sentencepiece" and not (directory / "tokenizer.json").exists():
    _convert(file, directory)


def _copy_files(source, directory, names: Sequence[str]) -> None:
  """Copy files of some names and named chat templates, where there are any."""
  templates = sorted((source / _TEMPLATES).glob("*.jinja"))
  for file in (*(source / name for name in names), *templates):
    if file.is_file() != os.path.lexists(file):
      raise ConfigError(f"{file} is no file, and cannot be exported; mend or remove it")
    if file.is_file():
      target = directory / file.relative_to(source)
      target.parent.mkdir(exist_ok=True)
      shutil.copyfile(file, target)


def _convert(file: pathlib.Path, directory: pathlib.Path) -> None:
  """Write a tokenizer.json beside a SentencePiece model that is of unigrams.

  transformers opens a tokenizer.model alone as one of merges (BPE), as Gemma's and
  Llama's are; a unigram model would be read wrongly, without an error.
  """
  protos: Any = sentencepiece_model_pb2  # Its classes are made when it is imported.
  model = protos.ModelProto()
  model.ParseFromString(file.read_bytes())
  trainer, normalizer = model.trainer_spec, model.normalizer_spec
  if trainer.model_type != trainer.UNIGRAM:
    if not (directory / _BESIDE[0]).exists():
      config = {"tokenizer_class": "LlamaTokenizer", "legacy": False}
      files.write_json(directory / _BESIDE[0], config | {"add_bos_token": True})
    return
  if (
    normalizer.precompiled_charsmap
    or normalizer.remove_extra_whitespaces
    or not normalizer.escape_whitespaces
    or trainer.treat_whitespace_as_suffix
  ):
    raise ConfigError(
      f"{file} changes text before it splits it, which tokenizer.json cannot state in "
      "the same way; give --tokenizer=huggingface:PATH of one that was converted"
    )
  made = library.Tokenizer(
    library.models.Unigram(
      [(piece.piece, piece.score) for piece in model.pieces],
      unk_id=trainer.unk_id,
      byte_fallback=trainer.byte_fallback,
    )
  )
  prefix = "always" if normalizer.add_dummy_prefix else "never"
  made.pre_tokenizer = library.pre_tokenizers.Metaspace(
    prepend_scheme=prefix, split=False
  )
  steps = library.decoders
  strip = [steps.Strip(" ", 1, 0)] if normalizer.add_dummy_prefix else []
  made.decoder = steps.Sequence(
    [steps.Replace("\u2581", " "), steps.ByteFallback(), steps.Fuse(), *strip]
  )
  ids = {"pad": trainer.pad_id, "eos": trainer.eos_id, "bos": trainer.bos_id}
  named = {role: model.pieces[i].piece for role, i in ids.items() if i >= 0}
  _write(made, directory, named)


# By id: tokenizers.PAD, EOS and BOS.
_SPECIAL = ("<pad>", "<eos>", "<bos>")
_NAMED = {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>"}


def _characters(alphabet: str) -> library.Tokenizer:
  """Return one token a character; a character of no id is an error."""
  vocabulary = {token: i for i, token in enumerate((*_SPECIAL, *alphabet))}
  unknown = "<none>"  # Of no id.
  made = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token=unknown))
  made.pre_tokenizer = library.pre_tokenizers.Split(
    library.Regex(r"[\s\S]"), behavior="isolated"
  )
  made.decoder = library.decoders.Fuse()
  return made


def _words(tokens: Sequence[str]) -> library.Tokenizer:
  """Return one token a word that is known; others fall into their characters."""
  vocabulary = {token: i for i, token in enumerate((*_SPECIAL, *tokens))}
  made = library.Tokenizer(library.models.BPE(vocabulary, [], ignore_merges=True))
  made.pre_tokenizer = library.pre_tokenizers.Split(
    library.Regex(facts_words.PIECE), behavior="isolated"
  )
  made.decoder = library.decoders.Fuse()
  return made


def _bytes() -> library.Tokenizer:
  """Return one token a byte, under the letters that byte-level BPE gives them."""
  letters = _byte_letters()
  vocabulary = {token: i for i, token in enumerate((*_SPECIAL, *letters))}
  made = library.Tokenizer(library.models.BPE(vocabulary, []))
  made.pre_tokenizer = library.pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  made.decoder = library.decoders.ByteLevel()
  return made


def _byte_letters() -> list[str]:
  """Return the letter of each byte: printable ones stand for themselves.

  The others take the letters from 256 on, in order. Reference: the byte-level BPE
  of GPT-2, Radford et al., 2019.
  """
  printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
  others = iter(range(256, 512))
  return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _write(
  made: library.Tokenizer, directory: pathlib.Path, named: dict[str, str]
) -> None:
  """Write a tokenizer and the names of its special tokens by role."""
  made.add_special_tokens([library.AddedToken(token) for token in named.values()])
  bos = named.get("bos")
  if bos is not None:
    # Documents begin with BOS in training; so do texts of whoever asks for it.
    made.post_processor = library.processors.TemplateProcessing(
      single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )
  text: Any = json.loads(made.to_str())
  files.write_json(directory / "tokenizer.json", text)
  files.write_json(
    directory / "tokenizer_config.json",
    {
      "tokenizer_class": "PreTrainedTokenizerFast",
      **{f"{role}_token": token for role, token in named.items()},
      "add_bos_token": bos is not None,
      "clean_up_tokenization_spaces": False,
    },
  )
