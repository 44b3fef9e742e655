"""What a worker takes, as --accelerator has it."""

import pytest

from undo_jax.engines import accelerators
from undo_jax.utils.errors import ConfigError


def test_hosts_and_chips_of_each():
  for text, hosts, per_host in (
    ("cpu:1", 1, 1),
    ("cpu:2x1", 2, 1),
    ("gpu:8", 1, 8),
    ("h100:4x8", 4, 8),
  ):
    parsed = accelerators.parse(text)
    assert not parsed.is_tpu and (parsed.num_hosts, parsed.per_host) == (
      hosts,
      per_host,
    )
  parsed = accelerators.parse("v5p:2x2x4")
  assert parsed.is_tpu and (parsed.kind, parsed.shape) == ("v5p", "2x2x4")


@pytest.mark.parametrize(
  "text",
  ["", "v6e", "v6e:8", "v6e:4x", "h100", "h100:0", "h100:1x2x3", "tpu:4", "cpu:-1"],
)
def test_others_are_refused(text):
  with pytest.raises(ConfigError, match="--accelerator: expected v2, .* as v6e:4x4"):
    accelerators.parse(text)
