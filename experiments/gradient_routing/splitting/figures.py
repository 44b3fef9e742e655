"""Figures of the study: errors of the certificates, and what they reconstruct."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure
import numpy as np

from experiments.gradient_routing.drawing import render
from experiments.gradient_routing.splitting.results import (
  Part,
  Results,
  part_name,
  sample_rows,
)
from undo_jax.data.images import Images

# Colors of both groups of classes, and of the lines for the mean image.
_COLORS = ("#d55e00", "#0072b2")
_LINES = ((0, (4, 3)), (0, (1, 1.5)))


def draw(
  results: Results, images: Images, parts: Mapping[str, Part]
) -> dict[str, bytes]:
  """Draw all figures.

  Args:
    results: content of results.json.
    images: the training images.
    parts: results of the parts by name.

  Returns:
    PNG bytes by file name.
  """
  shown = {
    name: parts[part_name(name, results["seeds"][0])]["samples"]
    for name in ("routing", "no_routing")
    if name in results["settings"]
  }
  figures = {"certificates.png": partial(certificates, results, images.num_classes)}
  if shown:
    originals = images.test[sample_rows(images.test_labels)]
    figures["samples.png"] = partial(samples, originals, shown, images.shape)
  return render(figures)


def certificates(results: Results, num_classes: int) -> Figure:
  """Draw the second half's errors by group: a dot for each seed, a bar for the mean."""
  settings = results["settings"]
  figure = Figure(figsize=(8.0, 1.5 + 0.42 * len(settings)), layout="constrained")
  axes = figure.add_subplot()
  first = num_classes // 2
  labels = (f"classes 0 to {first - 1}", f"classes {first} to {num_classes - 1}")
  for group, (color, label) in enumerate(zip(_COLORS, labels, strict=True)):
    nothing = results["mean_image"][group]
    axes.axvline(nothing, color=color, linewidth=1, linestyle=_LINES[group])
    for row, of_setting in enumerate(settings.values()):
      y = row + 0.14 * (2 * group - 1)
      values = [by_half[1][group] for by_half in of_setting["certificate_mse"].values()]
      axes.plot(values, [y] * len(values), "o", color=color, markersize=4.5, alpha=0.55)
      mean = of_setting["mean"][group]
      named = label if row == 0 else None
      axes.plot(
        [mean], [y], "|", color=color, markersize=15, markeredgewidth=2, label=named
      )
      if of_setting["paper"]:
        named = f"{label}, paper on MNIST" if row == 0 else None
        paper = of_setting["paper"][group]
        axes.plot([paper], [y], "D", color=color, markerfacecolor="white", label=named)
  axes.set_yticks(range(len(settings)), [name.replace("_", " ") for name in settings])
  axes.invert_yaxis()
  axes.set_xlim(left=0)
  axes.set_xlabel(
    "MSE of the second half's certificate on test images\n"
    "(lines: the mean image, dashed for the first classes)"
  )
  figure.legend(loc="outside upper center", ncols=2)
  return figure


def samples(
  originals_SxP: np.ndarray, shown: Mapping[str, list], shape: Sequence[int]
) -> Figure:
  """Draw test images, and each certificate's reconstruction from its half."""
  rows = [("image", np.clip((originals_SxP + 1) * 127.5, 0, 255))]
  for name, certified_HxSxP in shown.items():
    title = name.replace("_", " ")
    for half, pixels_SxP in zip(("first", "second"), certified_HxSxP, strict=True):
      rows.append((f"{title},\n{half} half", np.asarray(pixels_SxP)))
  columns = len(originals_SxP)
  size = (1.2 + 0.68 * columns, 0.75 * len(rows))
  figure = Figure(figsize=size, layout="constrained")
  grid = figure.subplots(len(rows), columns, squeeze=False)
  for (title, pixels_SxP), panels in zip(rows, grid, strict=True):
    for axes, pixels in zip(panels, pixels_SxP, strict=True):
      image = pixels.reshape(shape).astype(np.uint8)
      axes.imshow(image, cmap="gray", vmin=0, vmax=255)
      axes.set_xticks([])
      axes.set_yticks([])
      axes.grid(visible=False)
      axes.spines[:].set_visible(False)
    panels[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
  return figure
