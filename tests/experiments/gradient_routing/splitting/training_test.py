"""Training of the autoencoder: coupled decay (T23), every image once an epoch."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_routing.splitting import training


def test_weight_decay_is_coupled():
  """Adam divides the gradient by its size: lr * sign(theta), whatever the decay."""
  optimizer = training.make_optimizer(1e-3, 5e-5)
  theta = jnp.array([0.02, -0.5, 0.0])
  updates, _ = optimizer.update(jnp.zeros(3), optimizer.init(theta), theta)
  gradient = 5e-5 * np.float64(theta)
  expected = -1e-3 * gradient / (np.abs(gradient) + 1e-8)
  np.testing.assert_allclose(updates, expected, rtol=1e-4)
  np.testing.assert_allclose(updates[:2], [-9.901e-4, 9.996e-4], rtol=1e-4)


def test_an_epoch_has_every_image_once_and_a_last_batch_of_the_rest():
  orders = []
  for seed in range(2):
    order, present = training.shuffled(jax.random.key(seed), 10, 4)
    assert order.shape == present.shape == (3, 4)
    np.testing.assert_array_equal(present.sum(1), [4, 4, 2])
    rows = np.asarray(order)[np.asarray(present) == 1]
    assert sorted(rows) == list(range(10))
    orders.append(rows.tolist())
  assert orders[0] != orders[1]
