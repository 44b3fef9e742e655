"""Ids are those of the libraries; text never becomes a special token."""

import hashlib
import io
import json

import pytest
import sentencepiece
import tokenizers as hf
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from undo_jax.data import tokenizers
from undo_jax.utils.types import ConfigError

LINES = [
  f"{a} + {b} = {a + b}: die Straße, 더하기 (bos)" for a in range(30) for b in range(9)
]
PLAIN = [
  "",
  "12 + 3 = 15",
  "Die Straße, 더하기 日本 😀",
  "  two  spaces\n\nlines\t",
  "e\u0301 ﬁ ½",
]
LOOKALIKES = "<s> <bos>a<eos></s><pad><|end|>"
NAMES = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
STATED = {"add_bos_token": True}


def train_sentencepiece(directory, **options):
  """Train with the library alone; by default byte fallback and Gemma's ids."""
  settings = {
    "vocab_size": 310,
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "pad_piece": "<pad>",
    "eos_piece": "<eos>",
    "bos_piece": "<bos>",
    "byte_fallback": True,
    "minloglevel": 2,
  }
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(LINES), model_writer=model, **(settings | options)
  )
  (directory / "tokenizer.model").write_bytes(model.getvalue())
  return directory / "tokenizer.model"


def train_bpe(directory, names=NAMES):
  """Train with the library alone; its post-processor adds BOS and EOS."""
  tokenizer = hf.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=["<pad>", "<eos>", "<bos>", "<|end|>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(LINES, trainer)
  tokenizer.post_processor = processors.TemplateProcessing(
    single="<bos> $A <eos>", special_tokens=[("<eos>", 1), ("<bos>", 2)]
  )
  return write(directory, tokenizer, **{"tokenizer_config.json": names})


def write(directory, tokenizer, **naming):
  path = directory / "tokenizer.json"
  tokenizer.save(str(path))
  for name, content in naming.items():
    (directory / name).write_text(json.dumps(content))
  return path


def specials(tokenizer):
  return tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id


class TestSentencePiece:
  @pytest.fixture(
    params=[
      {},
      {"model_type": "bpe", "normalization_rule_name": "identity"},
      {"byte_fallback": False, "vocab_size": 55, "add_dummy_prefix": False},
    ],
    ids=["defaults", "bpe", "unknowns"],
  )
  def path(self, tmp_path, request):
    return train_sentencepiece(tmp_path, **request.param)

  @pytest.mark.parametrize("text", [*PLAIN, LOOKALIKES])
  def test_ids_and_text_are_those_of_the_library(self, path, text):
    tokenizer = tokenizers.make(f"sentencepiece:{path}")
    upstream = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = tokenizer.encode(text)
    assert ids == upstream.encode(text)
    assert tokenizer.decode(ids) == upstream.decode(ids)
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.vocab_size == upstream.vocab_size()

  def test_a_directory_is_its_model(self, tmp_path):
    path = train_sentencepiece(tmp_path)
    tokenizer = tokenizers.make(f"sentencepiece:{tmp_path}")
    assert specials(tokenizer) == (0, 1, 2)
    ids = tokenizer.encode("7 + 8")
    assert ids == tokenizers.make(f"sentencepiece:{path}").encode("7 + 8") != []

  @pytest.mark.parametrize(
    "options, expected",
    [
      ({"pad_id": -1, "eos_id": 2, "bos_id": 1, "unk_id": 0}, (2, 2, 1)),  # Llama-2.
      ({"bos_id": -1, "unk_id": 2}, (0, 1, None)),
      ({"user_defined_symbols": ["<bos>"]}, (0, 1, None)),  # Then it is text.
    ],
  )
  def test_special_ids_are_the_files(self, tmp_path, options, expected):
    path = train_sentencepiece(tmp_path, **options)
    assert specials(tokenizers.make(f"sentencepiece:{path}")) == expected

  def test_decoding_leaves_out_special_and_unused_ids(self, tmp_path):
    tokenizer = tokenizers.make(f"sentencepiece:{train_sentencepiece(tmp_path)}")
    ids = [2, *tokenizer.encode("7 + 8"), 1, 0, 310, 10**6]
    assert tokenizer.decode(ids) == "7 + 8"

  def test_no_end_of_text_is_refused(self, tmp_path):
    path = train_sentencepiece(tmp_path, eos_id=-1, bos_id=1, unk_id=2)
    with pytest.raises(ConfigError, match="end-of-text token, but .* has none"):
      tokenizers.make(f"sentencepiece:{path}")


class TestHuggingFace:
  @pytest.mark.parametrize("text", PLAIN)
  def test_ids_and_text_are_those_of_the_library(self, tmp_path, text):
    path = train_bpe(tmp_path)
    tokenizer = tokenizers.make(f"huggingface:{tmp_path}")
    upstream = hf.Tokenizer.from_file(str(path))
    ids = tokenizer.encode(text)
    assert [2, *ids, 1] == upstream.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.vocab_size == upstream.get_vocab_size() == 300

  def test_special_tokens_that_nobody_uses_need_no_place_in_the_model(self, tmp_path):
    path = train_bpe(tmp_path)
    upstream = hf.Tokenizer.from_file(str(path))
    upstream.add_special_tokens(["<image>"])
    upstream.save(str(path))
    tokenizer = tokenizers.make(f"huggingface:{path}")
    assert upstream.token_to_id("<image>") == 300
    assert tokenizer.vocab_size == 300
    assert max(tokenizer.encode("an <image> here")) < 300
    upstream.add_tokens(["ordinary"])
    upstream.save(str(path))
    assert tokenizers.make(f"huggingface:{path}").vocab_size == 302

  def test_special_tokens_in_text_are_spelled_out(self, tmp_path):
    path = train_bpe(tmp_path)
    tokenizer = tokenizers.make(f"huggingface:{path}")
    upstream = hf.Tokenizer.from_file(str(path))
    special = {0, 1, 2, 3}
    assert special <= set(upstream.encode(LOOKALIKES).ids)
    ids = tokenizer.encode(LOOKALIKES)
    assert not special & set(ids)
    assert tokenizer.decode(ids) == LOOKALIKES
    assert "bos" in map(upstream.id_to_token, ids)
    upstream.encode_special_tokens = True
    assert [2, *ids, 1] == upstream.encode(LOOKALIKES).ids

  def test_a_named_token_is_special_even_if_its_file_does_not_say_so(self, tmp_path):
    tokenizer = hf.Tokenizer.from_file(str(train_bpe(tmp_path)))
    tokenizer.add_tokens(["<stop>", "<word>"])
    write(tmp_path, tokenizer, **{"tokenizer_config.json": {"eos_token": "<stop>"}})
    made = tokenizers.make(f"huggingface:{tmp_path}")
    assert (made.eos_id, made.vocab_size) == (300, 302)
    assert 300 not in made.encode("a<stop>")
    assert made.decode([*made.encode("a"), 300]) == "a"
    # A token that is added, but not special, is one of text.
    assert [2, *made.encode("a<word>"), 1] == tokenizer.encode("a<word>").ids
    assert 301 in made.encode("a<word>")

  @pytest.mark.parametrize(
    "model, pre_tokenizer",
    [
      (
        models.Unigram(
          [("<unk>", 0.0), ("</s>", 0.0), *((c, -3.0) for c in "</s>ab▁")], unk_id=0
        ),
        pre_tokenizers.Metaspace(prepend_scheme="never"),
      ),
      (
        models.WordLevel(
          {"<unk>": 0, "</s>": 1, "</": 2, "s>": 3, "a": 4}, unk_token="<unk>"
        ),
        pre_tokenizers.WhitespaceSplit(),
      ),
    ],
    ids=["unigram", "words"],
  )
  def test_models_that_spell_special_tokens_do_not(
    self, tmp_path, model, pre_tokenizer
  ):
    tokenizer = hf.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    write(tmp_path, tokenizer, **{"config.json": {"eos_token_id": 1}})
    made = tokenizers.make(f"huggingface:{tmp_path}")
    tokenizer.encode_special_tokens = True
    assert 1 in tokenizer.encode("a </s> a").ids  # The library alone still finds it.
    text = "a </s> a </s></s> " * 1500 + "é"
    ids = made.encode(text)
    assert 1 not in ids
    assert ids[-1] == 0  # Unknown text remains unknown.
    plain = "a é a"
    assert made.encode(plain) == tokenizer.encode(plain).ids

  def test_a_special_token_of_one_character_is_refused_in_text(self, tmp_path):
    tokenizer = hf.Tokenizer(models.WordLevel({"a": 0, "§": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    write(tmp_path, tokenizer, **{"config.json": {"eos_token_id": 1}})
    made = tokenizers.make(f"huggingface:{tmp_path}")
    assert made.encode("a a") == [0, 0]
    with pytest.raises(ValueError, match="without special tokens, got '§'"):
      made.encode("a §")

  def test_truncation_padding_and_dropout_are_off(self, tmp_path):
    path = train_bpe(tmp_path)
    tokenizer = hf.Tokenizer.from_file(str(path))
    expected = tokenizer.encode("die Straße, 12", add_special_tokens=False).ids
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=40)
    tokenizer.model.dropout = 0.9
    tokenizer.save(str(path))
    made = tokenizers.make(f"huggingface:{path}")
    assert {tuple(made.encode("die Straße, 12")) for _ in range(20)} == {
      tuple(expected)
    }

  @pytest.mark.parametrize(
    "naming, expected",
    [
      ({"tokenizer_config.json": NAMES}, (0, 1, 2)),
      ({"tokenizer_config.json": {"eos_token": {"content": "<eos>"}}}, (1, 1, None)),
      ({"special_tokens_map.json": NAMES}, (0, 1, 2)),
      ({"config.json": {"eos_token_id": [3, 1], "bos_token_id": 2}}, (3, 3, 2)),
      (  # The first file that has the key decides, and null is an answer.
        {
          "tokenizer_config.json": {"bos_token": None, "eos_token": "<|end|>"},
          "special_tokens_map.json": NAMES,
          "config.json": {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 2},
        },
        (0, 3, None),
      ),
      ({"tokenizer_config.json": NAMES | {"add_bos_token": False}}, (0, 1, None)),
      ({"tokenizer_config.json": NAMES | STATED}, (0, 1, 2)),
      ({"config.json": {"bos_token_id": 1, "eos_token_id": 1}}, (1, 1, None)),
    ],
  )
  def test_special_ids_are_named_beside_the_file(self, tmp_path, naming, expected):
    tokenizer = hf.Tokenizer.from_file(str(train_bpe(tmp_path)))
    (tmp_path / "tokenizer_config.json").unlink()
    path = write(tmp_path, tokenizer, **naming)
    assert specials(tokenizers.make(f"huggingface:{path}")) == expected

  def test_texts_begin_with_bos_where_the_library_begins_them_so(self, tmp_path):
    path = train_bpe(tmp_path)
    tokenizer = hf.Tokenizer.from_file(str(path))
    for template, bos in (("$A <eos>", None), ("<bos> $A", 2), ("<|end|> $A", None)):
      tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<eos>", 1), ("<bos>", 2), ("<|end|>", 3)]
      )
      tokenizer.save(str(path))
      assert specials(tokenizers.make(f"huggingface:{path}")) == (0, 1, bos)
    write(tmp_path, tokenizer, **{"tokenizer_config.json": NAMES | STATED})
    assert specials(tokenizers.make(f"huggingface:{path}")) == (0, 1, 2)

  @pytest.mark.parametrize(
    "names, message",
    [
      ({}, "none of tokenizer_config.json, special_tokens_map.json, config.json"),
      ({"eos_token": None}, "names one"),
      ({"eos_token": "<stop>"}, "eos_token in .* of tokenizer.json, got '<stop>'"),
      ({"eos_token_id": 300}, "eos_token_id in .*, got 300"),
      ({"eos_token_id": -1}, "eos_token_id in .*, got -1"),
      ({"eos_token_id": True}, "eos_token_id in .*, got True"),
      ([], "expected a JSON object, .*tokenizer_config.json"),
    ],
  )
  def test_an_unknown_end_of_text_is_refused(self, tmp_path, names, message):
    path = train_bpe(tmp_path, names)
    with pytest.raises(ConfigError, match=message):
      tokenizers.make(f"huggingface:{path}")

  def test_decoding_leaves_out_special_and_unused_ids(self, tmp_path):
    tokenizer = tokenizers.make(f"huggingface:{train_bpe(tmp_path)}")
    ids = [2, *tokenizer.encode("7 + 8"), 1, 3, 300, 10**12, -1]
    assert tokenizer.decode(ids) == "7 + 8"


@pytest.mark.parametrize(
  "kind, file",
  [("sentencepiece", "tokenizer.model"), ("huggingface", "tokenizer.json")],
)
class TestFiles:
  def test_a_missing_file_is_named(self, tmp_path, kind, file):
    for path in (tmp_path, tmp_path / file):
      with pytest.raises(ConfigError, match=f"no file {tmp_path / file}") as error:
        tokenizers.make(f"{kind}:{path}")
      assert "\n" not in str(error.value)
      assert f"{kind}:PATH" in str(error.value)

  @pytest.mark.parametrize("broken", [b"", b"{}", b"no tokenizer\n\n", "half"])
  def test_a_broken_file_is_named(self, tmp_path, kind, file, broken):
    if broken == "half":
      train = {"sentencepiece": train_sentencepiece, "huggingface": train_bpe}[kind]
      whole = train(tmp_path).read_bytes()
      broken = whole[: len(whole) // 2]
    (tmp_path / file).write_bytes(broken)
    with pytest.raises(ConfigError, match=f"{file} cannot be read as one") as error:
      tokenizers.make(f"{kind}:{tmp_path}")
    assert "\n" not in str(error.value)

  def test_content_is_the_hash_of_the_file(self, tmp_path, kind, file):
    train = {"sentencepiece": train_sentencepiece, "huggingface": train_bpe}[kind]
    path = train(tmp_path)
    assert path.name == file
    assert tokenizers.content(f"{kind}:{tmp_path}") == {
      "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
      "pad_id": 0,
      "eos_id": 1,
      "bos_id": 2,
    }


def test_content_holds_what_files_beside_it_name(tmp_path):
  path = train_bpe(tmp_path, {"eos_token": "<bos>"})
  assert tokenizers.content(f"huggingface:{path}")["eos_id"] == 2
