"""Latent adversarial training: the push, and the method it stands around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import (
  FROZEN,
  apply,
  assert_trees_close,
  batch_of,
  draw_params,
  run,
)
from undo_jax import testing
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import latent_adversarial
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.utils.records import FieldError


@pytest.mark.parametrize(
  ("name", "other"),
  [("latent_adversarial", "grad_diff"), ("latent_adversarial, rmu", "rmu")],
)
def test_without_a_radius_it_is_the_other_method(name, other):
  params, batch = draw_params(1), batch_of(name)
  mine = run(name, params, batch, radius=0.0)
  changes = {"layers": (1,)} if other == "rmu" else {}
  plain = run(other, params, batch, **changes)
  np.testing.assert_allclose(mine[0], plain[0], rtol=1e-6)
  assert_trees_close(mine[1], plain[1], 1e-6)


def test_the_push_stays_in_its_ball_and_makes_the_targets_likelier():
  decoder = Decoder(testing.config())
  params, part = testing.weights(decoder.config), testing.batch(jax.random.key(0))

  def lost(push):
    logits = decoder.apply(params, part["inputs"], added={1: push}).logits
    return float(cross_entropy(logits, part["targets"], part["mask"]).mean())

  values = [lost(jnp.zeros((1, 1, 1)))]
  for radius in (0.2, 2.0):
    push = latent_adversarial.worst_push(
      decoder.apply, params, part, layer=0, radius=radius, steps=8, step_size=0.5
    )
    lengths = np.linalg.norm(np.asarray(push), axis=-1)
    assert lengths.max() <= radius * (1 + 1e-6)
    values.append(lost(push))
  assert values[0] > values[1] > values[2]


def test_no_weight_learns_through_the_push():
  params, part = draw_params(1), batch_of("grad_diff")["forget"]

  def size(params):
    push = latent_adversarial.worst_push(
      apply, params, part, layer=0, radius=0.5, steps=2, step_size=0.25
    )
    return jnp.sum(push**2)

  assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(size)(params)))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"layer": 2}, r"layer: expected a layer in \[0, 2\), got 2"),
    ({"around": "rmu", "layers": ()}, "layers: expected layers in"),
  ],
)
def test_options_that_cannot_work(options, message):
  with pytest.raises(FieldError, match=message):
    latent_adversarial.check(
      testing.config(), {"around": "grad_diff", "layer": 0} | options, is_random=False
    )


def test_passes_are_counted_by_the_steps():
  method = latent_adversarial.needs(around="rmu", steps=5, layers=(0,))
  assert method["trains"] == ("forget",) * 5 + ("forget", "retain")
  assert method["frozen"] == ("reference", "direction")
  assert FROZEN.keys() >= set(method["frozen"])
