"""Full finetuning: the weights themselves are trained."""

import jax
import numpy as np

from tests.attacks.tiny import KEY, MODEL, draw_params, equal
from undo_jax import attacks, objectives, testing
from undo_jax.models.decoder import Decoder, partition_rules


def test_finetuning_trains_the_weights_themselves():
  params = draw_params()
  members = attacks.members_of(MODEL, "finetuning", {})
  assert not members.reads_base
  equal(members.start(params, KEY), params)
  equal(members.weights(params, ()), params)
  assert members.rules(params) == partition_rules(MODEL)
  plain = objectives.make("cross_entropy", Decoder(MODEL).apply)
  batch = testing.batch(KEY)
  loss, expected = (
    jax.jit(objective)(params, (), batch, KEY)[0]
    for objective in (members.objective, plain)
  )
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
