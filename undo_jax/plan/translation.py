"""From the tables of a config to its stages: one translation for all entries."""

from collections.abc import Iterable, Mapping
import itertools
from typing import Any

from undo_jax import attacks, objectives, tasks
from undo_jax.data import labels, tokenizers
from undo_jax.objectives.method import Method
from undo_jax.plan import dependencies, lineages, mixtures, prompts, stages
from undo_jax.plan.attack_entries import AttackEntry, EditEntry, Entry
from undo_jax.plan.config import Recipe, RunConfig
from undo_jax.plan.noise import Saliency
from undo_jax.plan.predictions import Kept
from undo_jax.plan.stages import (
  BATCH,
  AblateStage,
  Against,
  AttackStage,
  DataStage,
  EditStage,
  FirstUpdates,
  GivenStage,
  PredictionsStage,
  Read,
  RowLabels,
  SaliencyStage,
  SelectionStage,
  Stage,
  TrainStage,
)
from undo_jax.plan.trained import TrainedShare
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.utils import records, streams

WHOLE = "_whole"  # After a model's name: before its reserved units are ablated.


def plan(
  config: RunConfig, seed: int, fingerprints: Mapping[str, str] | None = None
) -> list[Stage]:
  """Return the stages of a config in the order they run.

  Args:
    config: see plan.config.parse; its cross-checks are plan.checks'.
    seed: one of the config's.
    fingerprints: of the checkpoints that recipes name, by recipe; none where nothing
      is run.

  Raises:
    ConfigError: if a recipe starts from or reads a model that does not exist, or
      recipes depend on each other in a circle.
  """
  translation = _Translation(config, seed, fingerprints or {})
  made: list[Stage] = [translation.data()]
  for name in dependencies.ordered(config.models):
    made += translation.model(name)
  names = [model.name for model in lineages.models(made)]
  attacked = [name for name in names if config.models[name].is_attacked]
  for name, entry in config.attacks.items():
    for model in entry.models or attacked:
      made += translation.attacks(name, entry, model)
  return made


class _Translation:
  """What the stages of one config and seed have in common."""

  def __init__(self, config: RunConfig, seed: int, fingerprints: Mapping[str, str]):
    self._config, self._seed, self._fingerprints = config, seed, fingerprints
    self._task = tasks.get(config.task)
    self._forget = tuple(self._task.forget_splits(config.data))
    self._read: list[Read] = []  # That students share.

  def data(self) -> DataStage:
    """Return the data stage.

    Paths do not determine tokenizers and corpora, since files may be replaced: what
    they hold is added.
    """
    data = dict(self._config.data) | self._task.content(self._config.data)
    content = tokenizers.content(data["tokenizer"])
    if content is not None:
      data["tokenizer_content"] = content
    seeds = self._seeds({}, "data", "eval")
    return DataStage(name=stages.DATA, task=self._config.task, data=data, seeds=seeds)

  def model(self, name: str) -> list[Stage]:
    """Return the stages that make a model, with new ones that it needs before them."""
    recipe = self._config.models[name]
    common: dict[str, Any] = {"task": self._config.task, "model": self._config.model}
    if recipe.checkpoint is not None:
      fingerprint = self._fingerprints.get(name, "")
      return [GivenStage(name=name, fingerprint=fingerprint, **common)]
    known = len(self._read)
    trained = self._train(name, recipe)
    before = self._read[known:]
    if not recipe.reserve.is_on:
      return [*before, trained]
    whole = f"{name}{WHOLE}"
    ablated = AblateStage(name=name, whole=whole, reserve=recipe.reserve, **common)
    return [*before, records.replaced(trained, name=whole), ablated]

  def _saliency(self, recipe: Recipe, saliency: Saliency | TrainedShare) -> str | None:
    """Return the stage of the squared gradients that are asked for."""
    if not saliency.reads_gradients:
      return None
    stream = recipe.order_stream
    return self._shared(
      SaliencyStage(
        name=f"saliency_{saliency.model}",
        model=self._config.model,
        source=saliency.model,
        parts={
          p: mixtures.in_stage(self._config, m) for p, m in saliency.mixtures.items()
        },
        num_batches=saliency.num_batches,
        batch_size=saliency.batch_size,
        length=mixtures.length(self._config, saliency.mixtures.values()),
        seeds=self._seeds(recipe.streams, stream),
        stream=stream,
        selection=self._selection(saliency.mixtures.values()),
        power=saliency.power,
      )
    )

  def _predictions(
    self, recipe: Recipe, method: Method, parts: Mapping[str, Mapping[str, float]]
  ) -> PredictionsStage | None:
    """Return the stage of the teacher's predictions that a recipe reads, of parts."""
    settings, teacher = recipe.teacher_predictions, recipe.frozen.get("teacher")
    if not settings.keep or method.kept is None or teacher is None:
      return None
    model = self._config.model
    splits = {labels.split_of(name) for weights in parts.values() for name in weights}
    stage = PredictionsStage(
      name=f"predictions_{teacher}",
      task=self._config.task,
      model=model,
      source=teacher,
      splits=tuple(sorted(splits)),
      length=mixtures.length(self._config, recipe.mixture.values()),
      kept=Kept(top_k=method.kept(model, recipe.options), dtype=settings.dtype),
    )
    return records.replaced(stage, name=self._shared(stage))

  def _selection(self, used: Iterable[str]) -> str | None:
    """Return the stage of the selection whose rows mixtures are drawn from."""
    name = mixtures.selection(self._config, used)
    if name is None:
      return None
    selection, stream = self._config.selections[name], "data"
    splits = tuple(mixtures.weights(self._config, selection.mixture))
    return self._shared(
      SelectionStage(
        name=f"selection_{name}",
        splits=splits,
        forget=tuple(split for split in splits if split in self._forget),
        share=selection.share,
        labelled=selection.rows,
        keep=selection.keep,
        length=mixtures.length(self._config, [selection.mixture]),
        seeds=self._seeds({stream: selection.seed}, stream),
        stream=stream,
      )
    )

  def _shared(self, stage: Read) -> str:
    """Return the name of a stage that recipes with the same settings share."""
    for other in self._read:
      if records.replaced(other, name=stage.name) == stage:
        return other.name
    taken = {*self._config.models, *(other.name for other in self._read)}
    numbered = (f"{stage.name}_{number}" for number in itertools.count(2))
    name = next(
      n for n in (stage.name, *itertools.islice(numbered, len(taken))) if n not in taken
    )
    self._read.append(records.replaced(stage, name=name))
    return name

  def _train(self, name: str, recipe: Recipe) -> TrainStage:
    options = prompts.with_prompt(self._config, recipe)
    method = objectives.method(recipe.objective, options)
    parts, rows = self._parts(recipe, method)
    noise = recipe.noise.plain if recipe.noise.is_on and recipe.origin else None
    used = [recipe.order_stream]
    used += [] if recipe.origin else [recipe.init_stream]
    used += ["noise"] if noise or method.derived or recipe.trained.by else []
    predictions = self._predictions(recipe, method, parts)
    selection = self._selection(recipe.mixture.values())
    frozen = [] if predictions else dependencies.roles(recipe)
    return TrainStage(
      name=name,
      task=self._config.task,
      model=self._config.model,
      init=recipe.origin,
      noise=noise,
      objective=recipe.objective,
      options=objectives.stated(recipe.objective, options),
      frozen={role: str(recipe.frozen[role]) for role in frozen},
      optimizer=_optimizer(recipe, method),
      batch_size=recipe.batch_size,
      num_microbatches=recipe.num_microbatches,
      rho=recipe.rho,
      parts=parts,
      rows=rows,
      length=mixtures.length(self._config, recipe.mixture.values()),
      stop=recipe.stop if recipe.stop.rule else None,
      seeds=self._seeds(recipe.streams, *used),
      init_stream=recipe.init_stream,
      order_stream=recipe.order_stream,
      reserve=recipe.reserve if recipe.reserve.is_on else None,
      labels=self._labels(recipe, method),
      # What a selection leaves needs no more labels than the selection.
      sorts=recipe.labels.sorts if selection is None else None,
      is_counted=recipe.is_counted,
      noise_shape=recipe.noise.saliency.shape if noise else None,
      saliency=self._saliency(recipe, recipe.noise.saliency) if noise else None,
      noise_again=recipe.noise.again if noise else None,
      predictions=predictions and predictions.name,
      kept=predictions and predictions.kept,
      trained=recipe.trained.mask,
      trained_saliency=self._saliency(recipe, recipe.trained),
      smoothing=recipe.smoothing if recipe.smoothing.kind else None,
      selection=selection,
    )

  def attacks(self, name: str, entry: Entry, model: str) -> list[Against]:
    """Return the stages of an attack on a model, one for each of its seeds."""
    is_edit = isinstance(entry, EditEntry)
    make: Any = self._edit if is_edit else self._attack
    draws = not is_edit or attacks.EDITS.get(entry.edit).draws
    seeds = self._seeds({}, entry.stream) if draws else {}
    if not entry.seeds:
      return [make(name, entry, model, f"{name}_{model}", seeds)]
    return [
      make(
        name,
        entry,
        model,
        f"{name}_seed{seed}_{model}",
        {n: streams.integer(root, f"attack seed {seed}") for n, root in seeds.items()},
      )
      for seed in entry.seeds
    ]

  def _edit(
    self, name: str, entry: EditEntry, model: str, stage: str, seeds: dict[str, int]
  ) -> EditStage:
    reads_base = attacks.EDITS.get(entry.edit).reads_base
    mixture = entry.mixture or {}
    parts = {
      part: mixtures.weights(self._config, name) for part, name in mixture.items()
    }
    return EditStage(
      name=stage,
      task=self._config.task,
      model=self._config.model,
      attack=name,
      target=model,
      base=self._config.references.base if reads_base else None,
      edit=entry.edit,
      options=entry.options,
      strengths=entry.strengths,
      seeds=seeds,
      stream=entry.stream,
      parts=parts or None,
      batch_size=entry.rows or 0,
      length=mixtures.length(self._config, mixture.values()) if parts else 0,
    )

  def _attack(
    self,
    name: str,
    entry: AttackEntry,
    model: str,
    stage: str,
    seeds: dict[str, int],
  ) -> AttackStage:
    return AttackStage(
      name=stage,
      task=self._config.task,
      model=self._config.model,
      attack=name,
      target=model,
      adversary=entry.adversary,
      options=entry.options,
      learning_rates=entry.learning_rates,
      optimizer=OptimizerConfig(
        name=entry.optimizer,
        learning_rate=1.0,
        num_steps=entry.num_steps,
        warmup_steps=entry.warmup_steps,
        weight_decay=entry.weight_decay,
        clip_norm=entry.clip_norm,
        trainable=entry.trainable,
        final_learning_rate=0.0 if entry.schedule == "cosine" else None,
        still_steps=entry.still_steps,
      ),
      evaluate_every=entry.evaluate_every,
      evaluations_per_call=entry.evaluations_per_call,
      batch_size=entry.batch_size,
      parts={BATCH: mixtures.weights(self._config, entry.mixture)},
      length=mixtures.length(self._config, [entry.mixture]),
      noise=entry.noise if entry.noise.is_on else None,
      seeds=seeds,
      stream=entry.stream,
      scored_items=entry.scores,
      samples=entry.samples,
      first=self._first(entry),
    )

  def _first(self, entry: AttackEntry) -> FirstUpdates | None:
    """Return what an attacker trains on before its own data."""
    if entry.first_mixture is None:
      return None
    parts = {BATCH: mixtures.weights(self._config, entry.first_mixture)}
    return FirstUpdates(parts=parts, num_steps=entry.first_steps)

  def _seeds(self, own: Mapping[str, int | None], *names: str) -> dict[str, int]:
    """Return the seeds of streams, a model's own before the run's."""
    overrides = dict(self._config.streams)
    overrides |= {name: seed for name, seed in own.items() if seed is not None}
    return {name: streams.root(self._seed, overrides, name) for name in names}

  def _labels(self, recipe: Recipe, method: Method) -> RowLabels | None:
    """Return what is known of the rows, where the objective or the mixture asks."""
    is_filter = recipe.labels.drop_forget
    if not is_filter and method.sources == "none":
      return None
    share = recipe.labels.share
    return RowLabels(share=share, forget=self._forget, is_filter=is_filter)

  def _parts(
    self, recipe: Recipe, method: Method
  ) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Return the splits of each part of a batch, and how many rows it has."""
    parts = {
      part: mixtures.in_stage(self._config, name)
      for part, name in recipe.mixture.items()
    }
    if method.sources == "parts":
      share = recipe.labels.share
      return labels.parts(parts[BATCH], self._forget, share, recipe.batch_size)
    if recipe.labels.drop_forget:
      share = recipe.labels.share
      parts = {n: labels.dropped(w, self._forget, share) for n, w in parts.items()}
    return recipe.folds.of(parts), dict.fromkeys(parts, recipe.batch_size)


def _optimizer(recipe: Recipe, method: Method) -> OptimizerConfig:
  """Return a recipe's optimizer; a method may say itself what is trained."""
  if method.trainable is None:
    return recipe.optimizer
  trainable = method.trainable(**recipe.options)
  return records.replaced(recipe.optimizer, trainable=trainable)
