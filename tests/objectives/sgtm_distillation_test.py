"""Distillation by selective masking against gradients of its parts one by one."""

from tests.objectives.routed_toy import check_selective_masking
from undo_jax.objectives import routed_distillation, sgtm_distillation


def test_selective_gradient_masking_is_one_loss_over_all_tokens():
  check_selective_masking(sgtm_distillation.make, like=routed_distillation.make)
