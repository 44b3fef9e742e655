"""Attacks beside the weights are the same on 1 and 8 devices, all in one program."""

import functools
import json

import jax
import numpy as np
import pytest

from undo_jax import attacks, testing
from undo_jax.attacks import relearning
from undo_jax.distributed import placement, sharding
from undo_jax.running import programs
from undo_jax.training import population
from undo_jax.training.optimizers import OptimizerConfig, make_population_optimizer
from undo_jax.training.step import make_step, scan_steps

MODEL = testing.config(num_layers=1, logits_chunk=4)
PARAMS, KEY = testing.weights(MODEL), jax.random.key(1)
RATES = np.array([1e-3, 0.1], np.float32)
UPDATES, STILL = 3, 2
TRAINED = {
  "logit_calibration": ("logit_calibration", {}),
  "soft_prompt": ("soft_prompt", {"tokens": 4}),
  "latent_push": ("push", {"layer": 0, "radius": 0.05}),
  "embedding_push": ("push", {"layer": None, "radius": 0.05}),
  "warm_state": ("finetuning", {}),
}
FOUND = {
  "direction_ablation": ("{}", 0.0),
  "gcg": (json.dumps({"steps": 2, "candidates": 6, "top_k": 4}), 3.0),
}
ROWS = {
  part: jax.device_get(testing.batch(jax.random.key(number), rows=8, length=8))
  for number, part in enumerate(("forget", "retain"))
}
BATCHES = jax.tree.map(
  lambda *x: np.stack(x),
  *(jax.device_get(testing.batch(jax.random.key(9 + n))) for n in range(UPDATES)),
)


def where_of(devices):
  axes = {"data": 2, "fsdp": 2, "tensor": 2} if devices == 8 else {}
  return testing.mesh(devices, **axes)


def put(mesh):
  return jax.tree.map(
    lambda x, s: sharding.put_whole(np.asarray(x), s.sharding),
    PARAMS,
    programs.abstract_params(MODEL, mesh),
  )


@functools.cache
def trained(devices):
  """Return what each adversary has trained after some updates."""
  mesh = where_of(devices)

  def one(name, params, batches):
    adversary, options = TRAINED[name]
    still = STILL if name == "warm_state" else 0
    config = OptimizerConfig(
      learning_rate=1.0, num_steps=UPDATES, still_steps=still, clip_norm=1.0
    )
    members = attacks.members_of(MODEL, adversary, options)
    optimizer = make_population_optimizer(config)
    step = make_step(members.objective, optimizer)
    if members.project is not None:
      step = relearning.projected(step, members.project)
    frozen = {"base": params} if members.reads_base else ()
    state = population.create(members.start(params, KEY), optimizer, RATES)
    state, _ = scan_steps(population.over_replicas(step))(state, frozen, batches, KEY)
    return state.params

  def every(params, batches):
    return {name: one(name, params, batches) for name in TRAINED}

  rows = sharding.put_batch(BATCHES, mesh, leading=1)
  return jax.device_get(jax.jit(placement.on(mesh, every))(put(mesh), rows))


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_trained_does_not_depend_on_the_devices(name):
  one, many = (trained(devices)[name] for devices in (1, 8))
  begun = PARAMS if name == "warm_state" else None
  for path, (x, y) in enumerate(zip(*map(jax.tree.leaves, (one, many)), strict=True)):
    assert np.all(np.isfinite(x)) and x.shape[0] == len(RATES)
    for rate, a, b in zip(RATES, x, y, strict=True):
      # Adam divides gradients by their size, which magnifies rounding near zero.
      assert np.max(abs(a - b)) <= 0.05 * rate and np.mean(abs(a - b)) <= 2e-3 * rate
    if begun is not None:  # Two of the updates moved nothing.
      moved = abs(x - np.asarray(jax.tree.leaves(begun)[path]))
      assert 0 < moved[1].max() < 1.5 * RATES[1]


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found_in_rows_does_not_depend_on_the_devices(name):
  actual = []
  for devices in (1, 8):
    mesh, edit = where_of(devices), attacks.EDITS.get(name)
    assert edit.beside is not None
    rows = {part: ROWS[part] for part in edit.beside.reads}
    find = programs.find_beside(MODEL, mesh, name, *FOUND[name])
    rows = sharding.put_batch(rows, mesh)
    actual.append(jax.device_get(find(put(mesh), rows, KEY)))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), *actual)
