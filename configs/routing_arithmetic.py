"""Gradient routing beside UNDO in the arithmetic setting: which forgetting lasts?

COMMAND, ends in runs/routing/report.html:

  python -m experiments.undo --config=configs/routing_arithmetic.py:tiny \
      --workdir=runs/routing

The models of configs/arithmetic.py:tiny, and beside them models that learn forget rows
in a reserved quarter of the MLP units, which is ablated: pretrained so (`routed`,
`sgtm`, and `routed_control`, whose gradients are not routed), noised and distilled
after that (`routed_undo_alpha_X`), or distilled so from the base
(`routed_distillation_alpha_X`, `sgtm_distillation_alpha_X`).
--config.routing.kv_heads=1 reserves an attention head too.

Partial labels: --config.routing.labelled=0.25 labels a quarter of the rows, and adds
`data_filtering_labelled`, which leaves out the rows that are labelled forget.

Reference: arXiv 2410.04332, section 4.2; for sgtm arXiv 2512.05648.
"""

from typing import Any

from ml_collections import config_dict

from configs import arithmetic, common


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of a size: tiny."""
  common.parse_size(arg, ("tiny",))
  config: Any = arithmetic.get_config("tiny")
  config.model.num_kv_heads = 4  # So that a single head can be set aside.
  config.unlearn.methods = ("max_ent",)
  config.undo.oracle_matching = False
  config.routing.methods = (
    "routed",
    "routed_control",
    "sgtm",
    "routed_distillation",
    "sgtm_distillation",
  )
  config.routing.teachers = ("routed",)
  config.routing.undo_alphas = (0.3, 0.5)
  config.routing.alphas = (0.3, 0.5, 0.7)
  config.routing.mlp_units = 96
  # Routed, half of the rows train a quarter of the units: that takes longer to learn.
  config.routing.pretrain.num_steps = 1600
  return config
