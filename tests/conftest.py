"""Eight host devices for every test and quick compiling, set before JAX starts."""

import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small programs that run once: compiling them takes most of a test's time. Set to 0 for
# programs as users run them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from absl import flags  # noqa: E402

# Grain and ml_collections read absl flags; pytest does not parse them.
flags.FLAGS.mark_as_parsed()
