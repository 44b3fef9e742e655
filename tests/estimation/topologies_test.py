"""Slices that are not here: what is known of them, and names that are none."""

import importlib.util

import pytest

from undo_jax.estimation import topologies
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize("name", ["v9:4x4", "cuda:8", ""])
def test_an_unknown_chip_is_named(name):
  with pytest.raises(ConfigError, match=f"--topology: expected v5e, .* '{name}'"):
    topologies.get(name)


@pytest.mark.parametrize("name", ["h100:", "h100:0x8", "a100:8y"])
def test_a_wrong_number_of_gpus_is_named(name):
  with pytest.raises(ConfigError, match="expected GPUs such as h100:8 .*hosts x GPUs"):
    topologies.get(name)


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is not None, reason="the TPU compiler is here"
)
def test_without_the_compiler_the_mend_is_named():
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[tpu-compile\]'"):
    topologies.get("v5e:4x4")
