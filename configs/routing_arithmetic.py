"""Gradient routing beside UNDO in the arithmetic setting: which forgetting lasts?

COMMAND, ends in runs/routing/report.html:

  python -m experiments.undo --config=configs/routing_arithmetic.py:tiny \
      --workdir=runs/routing

Beside the models of configs/arithmetic.py:tiny there are models that learn forget rows
in a reserved quarter of the MLP units, which is then ablated. Some are pretrained in
this way (`routed`, `sgtm`, and `routed_control`, whose gradients are not routed), some
are noised and distilled after that (`routed_undo_alpha_X`), and some are distilled in
this way from the base (`routed_distillation_alpha_X`, `sgtm_distillation_alpha_X`).
--config.models.routed.reserve.kv_heads=1 reserves an attention head too.

Partial labels: --config=configs/routing_arithmetic.py:labelled labels a quarter of the
rows (--config.models.data_filtering_labelled.labels.share), and adds
`data_filtering_labelled`, which leaves out the rows that are labelled forget.

Reference: arXiv 2410.04332, section 4.2; for sgtm arXiv 2512.05648.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: tiny, or labelled, the same with partial labels."""
  size = c.parse_size(arg, ("tiny", "labelled"))
  config = c.shipped("arithmetic:tiny")
  config.model.num_kv_heads = 4  # So that a single head can be set aside.
  models = config.models
  for name in ("grad_diff", "rmu", "oracle_matching"):
    models[name].run = False
  labelled = c.data_filtering(models.base, mixture="pretrain")
  labelled.labels.update({"share": 0.25 if size == "labelled" else 1.0})
  labelled.labels.drop_forget = True
  c.look(labelled, "filtering by labels", "#8d8d8d", "X")
  labelled.run = size == "labelled"
  models.data_filtering_labelled = labelled
  config.report.rival = "undo"
  share = labelled.labels.get_oneway_ref("share")
  _declare_pretrained(models, share)
  _declare_distilled(models, share)
  return config


def _declare_pretrained(models: c.Config, share: c.Config) -> None:
  """Declare routing from the start; `routed_control` lets forget rows train all."""
  options = c.coherence()
  # With routing, half of the rows train only a quarter of the units, which takes more
  # updates.
  how: c.Config = {"mlp_units": 96, "optimizer": {"num_steps": 1600}}
  models.routed = c.routed(models.base, "routed", options=options, **how)
  models.routed_control = c.routed(
    models.base, "routed", options=options, old_target=1.0, **how
  )
  models.sgtm = c.routed(models.base, "sgtm", **how)
  c.look(models.routed, "routed", "#00796b", "p")
  c.look(models.routed_control, "routed, control", "#9aa0a6", "8")
  c.look(models.sgtm, "SGTM", "#689f38", "H")
  for name in ("routed", "routed_control", "sgtm"):
    models[name].labels.share = share


def _declare_distilled(models: c.Config, share: c.Config) -> None:
  """Declare UNDO on a routed model, and routed distillation of the noised base."""
  models.routed_undo = c.like(
    models.undo, frozen={"teacher": "routed"}, sweep={"noise": {"alpha": (0.3, 0.5)}}
  )
  c.look(models.routed_undo, "routed, UNDO", "BuGn", "p")
  how: c.Config = {
    "phase": "unlearn",
    "mlp_units": 96,
    "frozen": {"teacher": "base"},
  }
  models.routed_distillation = c.routed(
    models.undo, "routed_forward_kl", options=c.coherence(), **how
  )
  models.sgtm_distillation = c.routed(models.undo, "sgtm_forward_kl", **how)
  c.look(models.routed_distillation, "routed distillation", "Purples", "d")
  c.look(models.sgtm_distillation, "SGTM distillation", "RdPu", "D")
  for name in ("routed_distillation", "sgtm_distillation"):
    models[name].labels.share = share
