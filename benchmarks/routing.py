"""What gradient routing costs: training steps with and without it, by turns.

COMMAND, some minutes on 2 CPU cores:

  python -m benchmarks.routing --rounds=5

Every way is one training step (cross-entropy, gradients, clipping, AdamW) on the same
batch, whose tokens belong to a source by what they predict:

  unrouted    none of it; what the others are compared with.
  factors     masks at the MLP units and heads of all layers, as a table and ids.
  dense       the same masks multiplied out, [N, B, L, units].
  parameters  masks on parameters, two sources with half of the rows each.
  sources_K   the gradients of K sources over the same rows, each by its own backward
              pass, put together by route_sources.

All ways are compiled in one process and take turns step by step, each time in another
order, so that others on the machine and what a step leaves in the caches disturb all
alike. The goals are 1.05 for factors and K + 0.2 for sources_K.
"""

import random
import statistics
import time
from typing import Any

from absl import app, flags

from benchmarks import common
from benchmarks.sizes import MODELS
from undo_jax.models.config import num_params
from undo_jax.utils import tables

PACKAGES = "jax jaxlib flax optax numpy".split()
SOURCES = ("forget", "retain", "unlabelled")
# Rows, tokens a row and the steps of each way in a round.
SIZES = {"tiny": (128, 16, 30), "small": (16, 64, 6)}

_SIZES = flags.DEFINE_list("sizes", list(SIZES), "Some of: " + ", ".join(SIZES))
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each size.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")


class Setting:
  """A model with reserved units, and a batch with the source of each token."""

  def __init__(self, name: str):
    import jax
    import jax.numpy as jnp

    from undo_jax import testing
    from undo_jax.models import expansion
    from undo_jax.models.decoder import Decoder
    from undo_jax.routing import era

    rows, length, self.num_steps = SIZES[name]
    self.config = MODELS[name]
    self.model = Decoder(self.config)
    self.params = jax.jit(self.model.init)(jax.random.key(0))
    vocab = self.config.vocab_size
    batch = testing.batch(jax.random.key(1), rows=rows, length=length, vocab=vocab)
    # A third of the vocabulary each.
    ids_BxL = batch["targets"] % len(SOURCES)
    self.batch = {**batch, "ids": ids_BxL, "mask": jnp.ones_like(batch["mask"])}
    reserved = self.config.mlp_width // 8
    self.expansion = expansion.reserve(self.config, mlp_units=reserved, kv_heads=1)
    self.masks = era.masks_for(self.expansion, self.params, old_target=-0.75)


# MARK: the ways; each returns a step (state, batch) -> state


def masked(setting: Setting, kind: str) -> Any:
  """Return the step without masks, or with masks in factors or dense ones."""
  import jax
  import jax.numpy as jnp

  from undo_jax.objectives.cross_entropy import cross_entropy
  from undo_jax.routing import masks
  from undo_jax.routing.activations import TokenMask, dense

  def routes(batch):
    if kind == "unrouted":
      return {}
    if kind == "dense":
      return batch["dense"]
    return factors(batch["ids"])

  def factors(ids_BxL):
    return masks.routes(setting.masks.tables, ids_BxL, setting.config.num_layers)

  def loss(params, batch):
    output = setting.model.apply(params, batch["inputs"], routes=routes(batch))
    return cross_entropy(output.logits, batch["targets"], batch["mask"]).mean()

  batch = setting.batch
  if kind == "dense":
    whole = {
      node: jnp.stack([dense(TokenMask(t, mask.weights_BxLxS)) for t in mask.table])
      for node, mask in factors(batch["ids"]).items()
    }
    batch = {**batch, "dense": whole}

  def gradients(params, batch):
    return jax.grad(loss)(params, batch)

  return gradients, ("all",), batch


def by_parameters(setting: Setting) -> Any:
  """Return the step of two sources with rows of their own."""
  import jax

  from undo_jax.objectives.cross_entropy import cross_entropy
  from undo_jax.routing.sources import route_parameters

  half = setting.batch["inputs"].shape[0] // 2
  rows = {"forget": slice(half), "retain": slice(half, None)}

  def loss(params, batch):
    total = 0.0
    for source, mask in setting.masks.params.items():
      part = jax.tree.map(lambda x, s=source: x[rows[s]], batch)
      routed = route_parameters(params, mask)
      logits = setting.model.apply(routed, part["inputs"]).logits
      total += 0.5 * cross_entropy(logits, part["targets"], part["mask"]).mean()
    return total

  def gradients(params, batch):
    return jax.grad(loss)(params, batch)

  return gradients, ("all",), setting.batch


def by_source(setting: Setting, num_sources: int) -> Any:
  """Return the step of gradients by source, all over the same rows."""
  import jax

  from undo_jax.objectives.cross_entropy import cross_entropy

  names = SOURCES[:num_sources]

  def loss(params, batch, k):
    logits = setting.model.apply(params, batch["inputs"]).logits
    own = batch["ids"] % num_sources == k
    return cross_entropy(logits, batch["targets"], own).mean()

  def gradients(params, batch):
    grad = jax.grad(loss)
    return {name: grad(params, batch, k) for k, name in enumerate(names)}

  return gradients, names, setting.batch


def make_step(setting: Setting, way: str) -> Any:
  """Return a function without arguments that does one step of a way."""
  import jax
  import optax

  from undo_jax.routing import transforms
  from undo_jax.utils import trees

  if way in ("unrouted", "factors", "dense"):
    gradients, names, batch = masked(setting, way)
  elif way == "parameters":
    gradients, names, batch = by_parameters(setting)
  else:
    gradients, names, batch = by_source(setting, int(way.removeprefix("sources_")))
  chain = [optax.clip_by_global_norm(1.0), optax.adamw(1e-4, weight_decay=0.1)]
  if names != ("all",):
    ones = trees.mask_from_rules(setting.params, [])
    chain.insert(
      0,
      transforms.route_sources(
        {name: setting.masks.params.get(name, ones) for name in names}
      ),
    )
  optimizer = optax.chain(*chain)

  def step(state, batch):
    params, opt_state = state
    grads = gradients(params, batch)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  compiled = jax.jit(step, donate_argnums=0)
  copy = jax.tree.map(lambda x: x.copy(), setting.params)
  holder = [(copy, optimizer.init(copy))]

  def run():
    holder[0] = jax.block_until_ready(compiled(holder[0], batch))

  return run


# MARK: the comparison

WAYS = ("unrouted", "factors", "dense", "parameters")
WAYS += ("sources_2", "sources_3")


def compare(name: str) -> dict[str, list[float]]:
  """Return the median milliseconds of each way's step in every round."""
  setting = Setting(name)
  steps = {way: make_step(setting, way) for way in WAYS}
  for step in steps.values():
    for _ in range(3):  # Compilation, and the allocator's growth.
      step()
  medians = {way: [] for way in WAYS}
  order = random.Random(0)
  for _ in range(_ROUNDS.value):
    times = {way: [] for way in WAYS}
    for _ in range(setting.num_steps):
      for way in order.sample(WAYS, len(WAYS)):
        start = time.perf_counter()
        steps[way]()
        times[way].append(1e3 * (time.perf_counter() - start))
    for way in WAYS:
      medians[way].append(statistics.median(times[way]))
  return medians


def rows(name: str, medians: dict[str, list[float]]) -> list[list[str]]:
  """Return the rows of the table for one size."""
  size = f"{num_params(MODELS[name]) / 1e6:.1f} M, {SIZES[name][0]} x {SIZES[name][1]}"
  table = []
  for way in WAYS:
    pairs = zip(medians[way], medians["unrouted"], strict=True)
    ratios = [one / plain for one, plain in pairs]
    table.append(
      [size, way, f"{statistics.median(medians[way]):.1f}", common.spread(ratios)]
    )
  return table


HEADER = ("parameters, rows x tokens", "way", "ms a step", "times unrouted (min..max)")


def main(argv: list[str]) -> None:
  """Print the table of all sizes."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  common.as_launched()
  results, others = {}, {}
  for name in _SIZES.value:
    with common.Stopwatch() as watch:
      results[name] = compare(name)
    others[name] = watch.others
  machine = common.describe(PACKAGES)
  print(
    tables.markdown(
      HEADER, [row for name in results for row in rows(name, results[name])]
    )
  )
  busy = ", ".join(f"{name} {cores:.2f}" for name, cores in others.items())
  print(f"\n- Cores that others used meanwhile: {busy}")
  print(common.machine_text(machine))
  common.write_json(
    _OUTPUT.value, {"machine": machine, "others": others, "milliseconds": results}
  )


if __name__ == "__main__":
  app.run(main)
