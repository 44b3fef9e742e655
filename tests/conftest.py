"""Eight host devices for every test, set before JAX starts."""

import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from absl import flags  # noqa: E402

# Grain and ml_collections read absl flags; pytest does not parse them.
flags.FLAGS.mark_as_parsed()
