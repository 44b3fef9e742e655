"""Fully connected networks against float64, initialized as PyTorch's."""

import jax
import numpy as np

from experiments.gradient_routing import mlp


def test_networks_are_initialized_as_pytorchs_and_applied():
  params = mlp.init(
    jax.random.key(0),
    {
      "drawn": mlp.Network((400, 300, 5)),
      "zeros": mlp.Network((400, 300, 5), zero_biases=True, last_bias=False),
    },
  )
  assert "bias" in params["drawn"][1] and "bias" not in params["zeros"][1]
  x = np.random.default_rng(0).normal(size=(3, 400))
  for name, layers in params.items():
    expected = x
    for index, (layer, inputs) in enumerate(zip(layers, (400, 300), strict=True)):
      kernel = np.float64(layer["kernel"])
      bias = np.float64(layer.get("bias", np.zeros(kernel.shape[1])))
      bound = inputs**-0.5  # torch.nn.Linear: U(-1/sqrt(inputs), 1/sqrt(inputs)).
      assert 0.99 * bound < np.abs(kernel).max() <= bound
      np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.05)
      assert np.abs(bias).max() <= bound and bias.any() == (name == "drawn")
      expected = expected @ kernel + bias
      expected = np.maximum(expected, 0) if index == 0 else expected
    np.testing.assert_allclose(mlp.apply(layers, x), expected, atol=1e-5)
  first, second = (layers[0]["kernel"] for layers in params.values())
  assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
