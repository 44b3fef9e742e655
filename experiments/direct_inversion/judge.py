"""Images to train on, and a classifier that judges the class of a picture."""

from collections.abc import Callable

import numpy as np
from sklearn import svm

from undo_jax.data import images as images_lib
from undo_jax.data.images import Images
from undo_jax.utils import checks


def load(path: str, shrink: int) -> Images:
  """Return the images of a directory or scikit-learn's digits; see data.images.load.

  Args:
    path: of the directory; empty: scikit-learn's digits.
    shrink: blocks of this many rows and columns become their mean.

  Raises:
    ConfigError: if there are no images, or if `shrink` does not divide their sides.
  """
  images = images_lib.load(path)
  height, width, *channels = images.shape
  if height % shrink or width % shrink:
    checks.fail("data.shrink", f"a divisor of {height} and {width} pixels", shrink)
  size = (height // shrink, width // shrink)

  def smaller(rows_NxP):
    cut = rows_NxP.reshape(-1, size[0], shrink, size[1], shrink, *channels)
    return cut.mean((2, 4)).reshape(len(rows_NxP), -1)

  return images._replace(
    train=smaller(images.train), test=smaller(images.test), shape=(*size, *channels)
  )


def train(images: Images) -> Callable[[np.ndarray], np.ndarray]:
  """Return a support vector machine: (pictures [..., P]) -> classes [...]."""
  machine = svm.SVC().fit(images.train, images.train_labels)

  def judge(pictures):
    flat_NxP = np.asarray(pictures).reshape(-1, pictures.shape[-1])
    return machine.predict(flat_NxP).reshape(pictures.shape[:-1])

  return judge
