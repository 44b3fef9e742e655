"""Split representations: each half of an autoencoder's code for a group of images.

COMMAND, results in runs/splitting/results.json and figures/:

  python -m experiments.gradient_routing.splitting \
      --config=configs/gradient_routing/splitting.py --workdir=runs/splitting

Sizes: `digits` trains on scikit-learn's 8x8 digits, which need no download; `tiny` is
what tests run; `paper` is MNIST with the paper's widths and schedule, its IDX or TFDS
files in data/mnist. CIFAR-100: `paper` with --config.data.path=data/cifar100.

The settings are the rows of the paper's table, in its order. A setting says what is
routed where: masks has a row for each group of images (the first and the second half of
the classes) and a column for each half of the code.

Reference: arXiv 2410.04332, section 4.1, table 2 and appendix B.
"""

from undo_jax import config as c

_EACH_ITS_OWN = ((1.0, 0.0), (0.0, 1.0))
_ALL_TO_ALL = ((1.0, 1.0), (1.0, 1.0))
_L1, _CORRELATION = (3e-3, 3e-3), 0.1


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: digits, tiny or paper."""
  size = c.parse_size(arg, ("digits", "tiny", "paper"))
  config = c.table()
  config.seeds = (0, 1, 2, 3, 4)  # Each is trained in every setting.
  config.replicas_at_once = 5  # Seeds trained as one population; bounds the memory.
  config.data = c.block(
    path="",  # Directory of IDX or TFDS files; empty: scikit-learn's digits.
  )
  config.model = c.block(
    hidden=(256, 128),  # Widths from the image to the code; decoders mirror them.
    latent=32,  # Units of the code, both halves together.
  )
  config.training = c.block(
    num_epochs=200,  # Passes over the training images.
    batch_size=256,  # Images in an update.
    learning_rate=1e-3,  # Of Adam, constant.
    weight_decay=5e-5,  # Coupled: it is added to the gradient before Adam.
    evaluate_every=50,  # Epochs between points of the learning curve.
  )
  settings = _settings()
  config.settings = c.block(**settings)
  config.run = tuple(settings)  # The settings that are run.
  if size == "tiny":
    config.seeds = (0, 1)
    config.replicas_at_once = 2
    config.model.update(hidden=(32, 16), latent=8)
    config.training.update(num_epochs=4, evaluate_every=2)
    config.run = ("routing", "no_routing")
  if size == "paper":
    config.seeds = tuple(range(20))
    config.replicas_at_once = 1
    config.data.path = "data/mnist"
    config.model.hidden = (2048, 512)
    config.training.update(batch_size=2048, evaluate_every=20)
  return config


def _settings():
  plain = {"l1": (0.0, 0.0), "correlation": 0.0}
  free = _setting(masks=_ALL_TO_ALL, **plain)
  second_only = {"masks": _ALL_TO_ALL, "seen": (0.0, 1.0)}
  return {
    "routing": _setting(),
    "routing_separate_decoders": _setting(separate_decoders=True),
    "routing_no_correlation": _setting(correlation=0.0),
    "routing_no_penalties": _setting(**plain),
    "routing_no_penalties_separate_decoders": _setting(separate_decoders=True, **plain),
    # The certified half is trained on all images, the other half on its own group.
    "routing_first_half_only": _setting(
      masks=((1.0, 1.0), (0.0, 1.0)), l1=(3e-3, 2e-2)
    ),
    "second_group_only": _setting(l1=(1e-3, 1e-3), correlation=0.0, **second_only),
    "second_group_only_no_penalties": _setting(**plain, **second_only),
    "no_routing": _setting(masks=_ALL_TO_ALL),
    "no_routing_no_penalties": free,
  }


def _setting(
  *,
  masks=_EACH_ITS_OWN,
  seen=(1.0, 1.0),
  l1=_L1,
  correlation=_CORRELATION,
  separate_decoders=False,
):
  return c.block(
    masks=masks,  # Factors of the gradient: a row for each group, a column for a half.
    seen=seen,  # 1: the autoencoder is trained on this group; 0: it is not.
    l1=l1,  # Weight of the mean absolute value of a unit, in each half.
    correlation=correlation,  # Weight of the correlation between the halves.
    separate_decoders=separate_decoders,  # One decoder for each group of images.
  )
