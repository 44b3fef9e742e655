"""Edits as records of their registry, ours and someone else's; what they refuse."""

import sys

import numpy as np
import pytest

from tests.attacks.edited import MODEL, PARAMS, edited
from undo_jax import attacks
from undo_jax.attacks import edit
from undo_jax.utils.types import ConfigError


def test_ours_are_known_by_name():
  assert list(attacks.EDITS) == [
    *("pruning", "quantization", "interpolation_to_base"),
    *(
      "difference_rank",
      "weight_noise",
      "direction_ablation",
      "few_shot",
      "gcg",
      "logit_lens",
    ),
  ]
  read_base = [name for name in attacks.EDITS if attacks.EDITS.get(name).reads_base]
  assert read_base == ["interpolation_to_base", "difference_rank"]
  drawn = [name for name in attacks.EDITS if attacks.EDITS.get(name).is_random]
  assert drawn == ["weight_noise", "few_shot", "gcg"]
  rows = {name: attacks.EDITS.get(name).reads for name in attacks.EDITS}
  assert {n: r for n, r in rows.items() if r} == {
    "direction_ablation": ("forget", "retain"),
    "gcg": ("forget",),
  }
  # Fewer bits are no more of an attack, and who has the base can have all of it.
  goes_on = [name for name in attacks.EDITS if attacks.EDITS.get(name).goes_on]
  assert goes_on == ["pruning", "weight_noise", "few_shot", "gcg"]


@pytest.mark.parametrize(
  ("name", "options", "strength", "message"),
  [
    ("pruning", {}, 1.0, r"strengths: expected shares in \[0, 1\), got 1.0"),
    ("pruning", {}, -0.1, "strengths: "),
    ("pruning", {"scope": "layer"}, 0.1, "options.scope: expected 'matrix' or 'all'"),
    ("pruning", {"share": 1}, 0.1, "options.share: there is no such field"),
    ("quantization", {}, 1.0, r"strengths: expected bits, whole numbers in \[2, 16\]"),
    ("quantization", {}, 4.5, "strengths: "),
    ("quantization", {"group_size": 0}, 4.0, "options.group_size: .* at least 1"),
    (
      *("quantization", {"group_size": 24}, 4.0),
      r"options.group_size: expected None or a divisor .*\(16, 32\), got 24",
    ),
    ("interpolation_to_base", {}, 1.0, r"strengths: expected numbers in \(0, 1\)"),
    ("difference_rank", {}, 0.0, r"strengths: .* in \[1, 16\], got 0.0"),
    ("difference_rank", {}, 17.0, "strengths: "),
    ("difference_rank", {}, 1.5, "strengths: "),
    ("weight_noise", {}, 0.0, "strengths: expected numbers above 0"),
    ("weight_noise", {"of": 1}, 0.1, "options.of: there is no such field"),
    ("suffix", {}, 0.1, "expected as edit one of pruning, .* got 'suffix'"),
    ("lora", {}, 0.1, "expected as edit one of pruning, "),
  ],
)
def test_what_does_not_fit_the_model_is_one_line(name, options, strength, message):
  with pytest.raises(ConfigError, match=message) as error:
    attacks.check_edit(MODEL, name, options, [strength])
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "options", "strengths"),
  [
    ("pruning", {"scope": "all"}, (0.0, 0.99)),
    ("quantization", {"group_size": 16}, (2, 16)),
    ("difference_rank", {}, (1, 16)),
    ("interpolation_to_base", {}, (0.01, 0.99)),
  ],
)
def test_what_fits_passes_and_is_told(name, options, strengths):
  attacks.check_edit(MODEL, name, options, strengths)
  record = attacks.EDITS.get(name)
  assert record.describe(record.parse(options)) and "\n" not in record.label


def test_leading_axes_are_matrices_of_their_own():
  """A sum over what is a matrix, of stacked layers and of those of no layer."""
  draw = np.random.default_rng(0).standard_normal
  params = {
    "embedding": draw((5, 2)),
    "layers": {"up": {"kernel": draw((3, 4, 2)), "bias": draw((3, 2))}},
  }
  params["final_norm"] = {"scale": draw(2)}
  centered = edit.over_matrices(
    lambda x, y: x - y.mean(), params, params, paths=edit.MATRICES
  )
  kernel = params["layers"]["up"]["kernel"]
  expected = kernel - kernel.mean(axis=(1, 2), keepdims=True)
  np.testing.assert_allclose(centered["layers"]["up"]["kernel"], expected, atol=1e-6)
  expected = params["embedding"] - params["embedding"].mean()
  np.testing.assert_allclose(centered["embedding"], expected, atol=1e-6)
  assert centered["layers"]["up"]["bias"] is params["layers"]["up"]["bias"]
  assert centered["final_norm"]["scale"] is params["final_norm"]["scale"]
  only = edit.over_matrices(lambda x: 0 * x, params)
  assert only["embedding"] is params["embedding"]
  assert not np.any(only["layers"]["up"]["kernel"])


THEIRS = """
import jax

from undo_jax.attacks.edit import Edit

EDIT = Edit(
  apply=lambda params, base, strength, key, options: jax.tree.map(
    lambda w: strength * w, params
  ),
  check=lambda params, strength, options: None,
  describe=lambda options: "all weights are scaled",
  label="scaling",
  strength="factor",
)
"""


def test_an_edit_may_be_someone_elses(tmp_path, monkeypatch):
  (tmp_path / "their_edits.py").write_text(THEIRS)
  monkeypatch.syspath_prepend(tmp_path)
  try:
    params = edited("their_edits:EDIT", 0.5)
    attacks.check_edit(MODEL, "their_edits:EDIT", {}, [0.5])
  finally:
    sys.modules.pop("their_edits", None)
  np.testing.assert_array_equal(params["embedding"], 0.5 * PARAMS["embedding"])
