"""The retain term: on tokens or on what a model says of them."""

import numpy as np
import pytest

from tests.objectives.toy import (
  FROZEN,
  batch_of,
  draw_params,
  np_forward_kl,
  np_objective,
  numpy_apply,
  run,
)


@pytest.mark.parametrize("name", ["grad_diff", "max_ent", "npo", "simnpo"])
def test_the_retain_loss_may_be_the_divergence_from_the_reference(name):
  params, batch = draw_params(1), batch_of(name)
  options = {"retain_weight": 0.3, "forget_weight": 0.7, "retain_loss": "kl"}
  loss, _, metrics = run(name, params, batch, **options)
  retain = batch["retain"]
  logits, reference = (
    numpy_apply(p, retain["inputs"])[0] for p in (params, FROZEN["reference"])
  )
  kl = np_forward_kl(logits, reference, np.asarray(retain["mask"]))
  forget = np_objective(name, params, FROZEN, batch)[0]
  np.testing.assert_allclose(loss, 0.7 * forget + 0.3 * kl, rtol=2e-6)
  np.testing.assert_allclose(metrics["retain_kl"].mean(), kl, rtol=1e-6)
  # At the start nothing has moved: only the forget term is left.
  frozen = FROZEN | {"reference": params}
  _, _, metrics = run(name, params, batch, frozen=frozen, **options)
  assert abs(metrics["retain_kl"].mean()) < 1e-6
