"""What the study computes: a part is a seed, from training to the last probe."""

from collections.abc import Callable, Iterator, Sequence
import functools
import logging
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments.direct_inversion import figures, judge, population, probes, schedule
from experiments.direct_inversion import results as results_lib
from experiments.direct_inversion.config import Config
from experiments.direct_inversion.population import BASE
from experiments.direct_inversion.probes import Probe
from experiments.direct_inversion.results import (
  Axes,
  EditPart,
  InversionPart,
  Part,
  Pictures,
  ReconstructionPart,
  RelearningPart,
  SamplePart,
)
from experiments.direct_inversion.training import Task
from experiments.shared import running, studies, typed
from experiments.shared.running import Study
from undo_jax.data.images import Images
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")
Judge: TypeAlias = Callable[[np.ndarray], np.ndarray]


def make(config: ConfigDict) -> Study[Part]:
  """Return the study of a config, or raise ConfigError."""
  checked = typed.read(Config, config)
  images = judge.load(checked.data.path, checked.data.shrink)
  checked.check_classes(images)
  return studies.of(
    studies.seed_names(checked),
    functools.partial(compute, checked, images),
    results_lib,
    figures,
    free=("seeds_at_once",),
  )


def compute(
  config: Config, images: Images, missing: Sequence[str]
) -> Iterator[tuple[str, Part]]:
  """Yield the results of the given seeds, trained together as populations."""
  by_name = running.seed_parts(config.seeds)
  judged = judge.train(images)
  accuracy = float(np.mean(judged(images.test) == images.test_labels))
  for start in range(0, len(missing), config.seeds_at_once):
    names = missing[start : start + config.seeds_at_once]
    LOGGER.info("%s: training", ", ".join(names))
    study = Seeds.train(config, images, judged, [by_name[name] for name in names])
    kinds = {
      "samples": study.samples(),
      "reconstruction": study.reconstruction(),
      "edit": study.edit(),
      "inversion": study.inversion(),
      "relearning": study.relearning(),
    }
    for index, name in enumerate(names):
      of_seed: Any = {kind: by_seed[index] for kind, by_seed in kinds.items()}
      of_seed |= {"axes": axes(config, images), "judge_accuracy": accuracy}
      yield name, of_seed


def axes(config: Config, images: Images) -> Axes:
  """Return the axes of a part's numbers."""
  return {
    "shape": list(images.shape),
    "forgotten": config.unlearning.label,
    "source": config.edits.source,
    "target": config.edits.target,
    "guidance_scales": list(config.edits.guidance_scales),
    "edit_lambdas": list(config.edits.noise_merge_lambdas),
    "probe_lambdas": list(config.probe.noise_merge_lambdas),
    "num_updates": list(config.relearning.num_updates),
    "learning_rates": list(config.relearning.learning_rates),
  }


class Seeds(NamedTuple):
  """The trained models of some seeds, and everything that measures them."""

  config: Config
  images: Images
  judge: Judge
  seeds: Sequence[int]
  task: Task
  probe: Probe
  models: dict[str, Params]  # By name, each with a leading axis S.

  @classmethod
  def train(
    cls, config: Config, images: Images, judged: Judge, seeds: Sequence[int]
  ) -> "Seeds":
    """Train the models of some seeds and return them."""
    task = population.make_task(config, images)
    bars_T = schedule.alpha_bars(config.schedule.beta_start, config.schedule.beta_end)
    probe = Probe(task.model, bars_T, config.edit)
    models = population.make(config, images, seeds)
    return cls(config, images, judged, seeds, task, probe, models)

  def held_out(self, label: int | None, count: int) -> np.ndarray:
    """Return held-out images of a class or of all classes, fewer if there are fewer."""
    is_chosen = self.images.test_labels == label
    chosen = self.images.test if label is None else self.images.test[is_chosen]
    return chosen[:count]

  def samples(self) -> list[SamplePart]:
    """Return the shares of samples from fresh noise that are of the right class."""
    block, forgotten = self.config.evaluation, self.config.unlearning.label
    others = [c for c in range(self.images.num_classes) if c != forgotten]
    label_B = np.repeat(
      [forgotten, *others], [block.samples] + [block.other_samples] * len(others)
    )
    made = self._sampled(_stacked(self.models), label_B)
    is_right_MxSxB = self.judge(made) == label_B
    forget_MxS = is_right_MxSxB[..., : block.samples].mean(-1)
    retain_MxS = is_right_MxSxB[..., block.samples :].mean(-1)
    return [
      {
        name: {"forget": float(forget_MxS[m, s]), "retain": float(retain_MxS[m, s])}
        for m, name in enumerate(self.models)
      }
      for s in range(len(self.seeds))
    ]

  def reconstruction(self) -> list[ReconstructionPart]:
    """Return the errors of images after inversion and back, by steps."""
    block = self.config.reconstruction
    images_BxP = jnp.asarray(self.held_out(None, block.images))
    errors = []
    for steps in block.num_steps:
      function = functools.partial(
        probes.reconstructions, self.probe, images_BxP=images_BxP, num_steps=steps
      )
      errors.append(_host(jax.vmap(function), self.models[BASE]))
    errors_SxNx3 = np.stack(errors, axis=1)
    return [
      {
        "num_steps": list(block.num_steps),
        "plain": errors_Nx3[:, 0].tolist(),
        "same_time": errors_Nx3[:, 1].tolist(),
        "shifted": errors_Nx3[:, 2].tolist(),
        "slope": results_lib.slope(block.num_steps, errors_Nx3[:, 0]),
      }
      for errors_Nx3 in errors_SxNx3
    ]

  def edit(self) -> list[EditPart]:
    """Return edits of images of one class under the prompt of another."""
    block = self.config.edits
    images_BxP = self.held_out(block.source, block.images)
    given_BxP = jnp.asarray(images_BxP)

    def edit(params, key):
      scales, lambdas = block.guidance_scales, block.noise_merge_lambdas
      return probes.edits(
        self.probe, params, given_BxP, block.target, scales, lambdas, key
      )[1]

    eval_S = population.keys(self.seeds, "eval")
    made = _host(jax.vmap(edit), self.models[BASE], eval_S)
    share = (self.judge(made) == block.target).mean(-1)
    error = _errors(made, images_BxP)
    return [
      {
        "share": share[s].tolist(),
        "error": error[s].tolist(),
        "source": _bytes(images_BxP[0]),
        "pictures": _bytes(made[s, :, :, 0]),
      }
      for s in range(len(self.seeds))
    ]

  def inversion(self) -> list[InversionPart]:
    """Return how much of the class inversion brings back, by model, way and lambda."""
    block, forgotten = self.config.probe, self.config.unlearning.label
    own_BxP, other_BxP = (
      self.held_out(label, block.images) for label in (forgotten, block.other)
    )
    count = min(len(own_BxP), len(other_BxP))
    images_WxBxP = np.stack([own_BxP[:count], own_BxP[:count], other_BxP[:count]])
    prompts_W = jnp.asarray([forgotten, self.images.num_classes, forgotten])
    scales, lambdas = (self.config.edit.guidance_scale,), block.noise_merge_lambdas

    def probe(params, key):
      def on_the_way(images_BxP, prompt):
        return probes.edits(
          self.probe, params, images_BxP, prompt, scales, lambdas, key
        )

      latents, pictures = jax.vmap(on_the_way)(images_WxBxP, prompts_W)
      return latents[0], pictures[:, 0]

    eval_S = population.keys(self.seeds, "eval")
    over_models = jax.vmap(jax.vmap(probe), in_axes=(0, None))
    latents, made = _host(over_models, _stacked(self.models), eval_S)
    share = (self.judge(made) == forgotten).mean(-1)  # [M, S, W, L]
    error = _errors(made, images_WxBxP[:, None])

    def by_way(values) -> dict[str, Any]:
      return dict(zip(results_lib.WAYS, values, strict=True))

    return [
      {
        name: {
          "nats_per_pixel": probes.nats_per_pixel(latents[m, s]),
          "share": by_way(share[m, s].tolist()),
          "error": by_way(error[m, s].tolist()),
          "pictures": by_way(_bytes(made[m, s, :, :, 0])),
        }
        for m, name in enumerate(self.models)
      }
      for s in range(len(self.seeds))
    ]

  def relearning(self) -> list[RelearningPart]:
    """Return the class's share of samples after updates on it, by learning rate."""
    block, forgotten = self.config.relearning, self.config.unlearning.label
    rows = population.groups(self.images, forgotten).forget
    attacked = {name: p for name, p in self.models.items() if name != BASE}
    label_B = np.full(self.config.evaluation.samples, forgotten)

    def relearn(params, key, count):
      return probes.relearned(self.task, rows, params, key, block.learning_rates, count)

    over_seeds = jax.vmap(relearn, in_axes=(0, 0, None))
    over_models = jax.jit(jax.vmap(over_seeds, in_axes=(0, None, None)))
    attack_S = population.keys(self.seeds, "attack")
    shares = []
    for count in block.num_updates:
      params = over_models(_stacked(attacked), attack_S, count)
      made = self._sampled(params, label_B, by_rate=True)
      shares.append((self.judge(made) == forgotten).mean(-1))  # [M, S, L]
    return [
      {
        name: [share[m, s].tolist() for share in shares]
        for m, name in enumerate(attacked)
      }
      for s in range(len(self.seeds))
    ]

  def _sampled(
    self, params: Params, label_B: np.ndarray, *, by_rate: bool = False
  ) -> np.ndarray:
    """Return samples [M, S, B, P] of models; by learning rate [M, S, L, B, P]."""
    steps = self.config.evaluation.num_inference_steps

    def sample(params, key):
      return probes.samples(self.probe, params, jnp.asarray(label_B), key, steps)

    of_seed = jax.vmap(sample, in_axes=(0, None)) if by_rate else sample
    over_models = jax.vmap(jax.vmap(of_seed), in_axes=(0, None))
    return _host(over_models, params, population.keys(self.seeds, "eval"))


def _stacked(models: dict[str, Params]) -> Params:
  """Return the weights of all models as one tree, [M, S, ...]."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models.values())


def _host(function: Callable[..., Any], *arguments: Any) -> Any:
  return jax.device_get(jax.jit(function)(*arguments))


def _errors(made: np.ndarray, images_BxP: np.ndarray) -> np.ndarray:
  """Return the root of the mean squared error over images and pixels."""
  return np.sqrt(np.mean((made - images_BxP) ** 2, axis=(-2, -1)))


def _bytes(pictures: np.ndarray) -> Pictures:
  """Return pixels of [-1, 1] as integers of [0, 255]."""
  return np.clip((pictures + 1) * 127.5, 0, 255).round().astype(int).tolist()
