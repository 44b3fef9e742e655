"""Routed distillation against gradients of the parts taken one by one."""

from tests.objectives.routed_toy import check_routing
from undo_jax.objectives import routed_distillation


def test_forget_rows_train_the_reserved_units_and_other_rows_everything():
  check_routing(routed_distillation.make, layer=0)
