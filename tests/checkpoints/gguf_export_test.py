"""GGUF files out: what came in, tensor by tensor; what has no form is refused."""

import json

import gguf
import numpy as np
import pytest

from tests.models import made_up_gguf as made_up
from undo_jax.checkpoints import exporting, gguf_export, importing
from undo_jax.models import gguf_weights
from undo_jax.utils.types import ConfigError


@pytest.fixture(params=["float32", "bfloat16"])
def imported(request, tmp_path):
  path = made_up.write(tmp_path / "model.gguf")
  importing.import_gguf(path, tmp_path / "in", dtype=request.param)
  return path, tmp_path / "in", request.param


def test_a_file_goes_out_as_it_came_in(imported, tmp_path):
  path, directory, dtype = imported
  exporting.export_gguf(directory, tmp_path / "out.gguf")
  assert not list(tmp_path.glob("*.parts"))
  before, after = (gguf_weights.open_file(p) for p in (path, tmp_path / "out.gguf"))
  assert set(after.tensors) == set(before.tensors)
  kinds = {"float32": "F32", "bfloat16": "BF16"}
  for name, tensor in after.tensors.items():
    is_vector = len(tensor.shape) == 1
    assert tensor.tensor_type.name == ("F32" if is_vector else kinds[dtype])
    expected = np.asarray(before.tensors[name].data)
    if dtype == "bfloat16":  # As gguf rounds, not as we do.
      kind = gguf.GGMLQuantizationType.BF16
      expected = gguf.dequantize(gguf.quantize(expected, kind), kind)
    got = gguf.dequantize(tensor.data, tensor.tensor_type)
    np.testing.assert_array_equal(got, expected)
  for name, value in before.fields.items():
    if not name.startswith("GGUF."):  # Counts of what the file holds.
      assert after.fields[name] == value, name


def test_transformers_opens_what_is_written(imported, tmp_path):
  transformers = pytest.importorskip("transformers")
  torch = pytest.importorskip("torch")
  _, directory, _ = imported
  exporting.export_gguf(directory, tmp_path / "out" / "model.gguf")
  tokens = torch.arange(24).reshape(2, 12)
  logits = []
  for where, options in (
    (directory, {}),
    (tmp_path / "out", {"gguf_file": "model.gguf"}),
  ):
    model = transformers.AutoModelForCausalLM.from_pretrained(
      where, dtype=torch.float32, **options
    )
    logits.append(model(tokens).logits.detach().numpy())
  np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model_type": "gemma2"}, "the family 'gemma2' cannot be written as GGUF"),
    ({"torch_dtype": "float16"}, "the dtype 'float16' cannot be written as GGUF"),
    (
      {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
      "scaled by 'llama3' cannot be written as GGUF",
    ),
  ],
)
def test_a_model_that_has_no_form_is_refused(tmp_path, changes, message):
  path = made_up.write(tmp_path / "model.gguf")
  importing.import_gguf(path, tmp_path / "in", dtype="float32")
  config = tmp_path / "in" / "config.json"
  config.write_text(json.dumps(json.loads(config.read_text()) | changes))
  with pytest.raises(ConfigError, match=message):
    gguf_export.write(tmp_path / "in", tmp_path / "out.gguf")
  assert not (tmp_path / "out.gguf").exists()


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
  path = made_up.write(tmp_path / "model.gguf")
  with pytest.raises(ConfigError, match="exists already"):
    exporting.export_gguf(tmp_path, path)
