"""A whole run from its config: checked, planned for each seed, run, reported."""

from collections.abc import Callable, Collection, Mapping, Sequence
import dataclasses
import hashlib
import json
import logging
import os
from typing import TypeAlias

import jax
from jax.sharding import Mesh

from undo_jax import config as builders
from undo_jax import running
from undo_jax.checkpoints import sources
from undo_jax.distributed import processes, sharding
from undo_jax.frontier import figures, reading, report, results, search_results
from undo_jax.frontier.search_results import SearchResults
from undo_jax.plan import checks, lineages, stages, translation
from undo_jax.plan.attack_entries import AttackEntry
from undo_jax.plan.config import (
  Recipe,
  RunConfig,
  parse,
  plain,
)
from undo_jax.plan.stages import Against, GivenStage, Stage
from undo_jax.running import Outcome, Run, run_shared, summary
from undo_jax.running.claims import claim_workdir
from undo_jax.running.sharing import check_inputs, named
from undo_jax.utils import environment, files, records
from undo_jax.utils.checks import fail
from undo_jax.utils.types import ConfigError, JsonObject

LOGGER = logging.getLogger("undo_jax")
# What a single command makes: the models of a phase, the attacks, or the scores of all.
SINGLE = ("pretrain", "unlearn", "distill", "relearn", "evaluate")
GIVEN = "model"  # The name that a checkpoint takes where no entry stands for it.
# Runs the stages of several runs by workers, whose arguments are the second.
Elsewhere: TypeAlias = Callable[[Sequence[Run], Sequence[str]], None]


@dataclasses.dataclass(frozen=True)
class Declared:
  """A config that has been checked, with the checkpoints that it names."""

  config: RunConfig
  mesh: Mesh
  given: Mapping[str, sources.Source]

  def plan(self, seed: int) -> list[Stage]:
    """Return the stages of one of the config's seeds."""
    fingerprints = {name: source.fingerprint for name, source in self.given.items()}
    return translation.plan(self.config, seed, fingerprints)


def declare(config: builders.Config, *, runs_here: bool = True) -> Declared:
  """Read a config and the headers of the checkpoints it names, and check all.

  The sizes of a checkpoint replace `config.model`. Workers may have other devices than
  this process, so they check the mesh themselves.

  Raises:
    ConfigError: at the first thing that cannot work, before any compute.
  """
  declared = parse(config)
  given = {
    name: _open(name, recipe, declared)
    for name, recipe in declared.models.items()
    if recipe.checkpoint is not None
  }
  if given:
    name, source = next(iter(given.items()))
    for other in given:
      if given[other].model != source.model:
        raise ConfigError(
          f"config.models.{other}.checkpoint: expected a model of the same sizes as "
          f"that of {name}; a run has one decoder"
        )
    declared = records.replaced(declared, model=source.model)
  if runs_here:
    mesh = sharding.make_mesh(**declared.mesh)
    shape = dict(mesh.shape)
  else:
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    fixed = {axis: size for axis, size in declared.mesh.items() if size > 0}
    shape = dict(mesh.shape) | fixed
  checks.check(declared, shape)
  for name in declared.report.figures:
    figures.REGISTRY.get(name)
  return Declared(declared, mesh, given)


def check_items(config: RunConfig) -> None:
  """Raise ConfigError if a table's attack scores what searches and stop rules read."""
  for name, entry in config.attacks.items():
    if isinstance(entry, AttackEntry) and entry.scores != "test":
      expected = "test in a table, since searches read validation items"
      fail(f"attacks.{name}.scores", expected, entry.scores)


def _open(name: str, recipe: Recipe, config: RunConfig) -> sources.Source:
  try:
    return sources.open_source(files.path(str(recipe.checkpoint)), config.model)
  except ConfigError as error:
    raise ConfigError(f"config.models.{name}.checkpoint: {error}") from None


def run_all(
  config: builders.Config,
  workdir: str | os.PathLike[str],
  *,
  profile_steps: tuple[int, int] | None = None,
  elsewhere: Elsewhere | None = None,
  search: SearchResults | None = None,
) -> results.Results | None:
  """Run what is not finished yet of a config, and write results and report.

  Args:
    config: a ConfigDict, see undo_jax/config.
    workdir: the run directory, a path or gs://.
    profile_steps: updates of each stage to trace.
    elsewhere: what runs the stages; None: this process.
    search: the one that chose values of the config, to be shown in the report.

  Returns:
    The results, in the first process; None in the others.
  """
  workdir = files.path(workdir)
  declared = declare(config, runs_here=elsewhere is None)
  check_items(declared.config)
  plans = {seed: declared.plan(seed) for seed in declared.config.seeds}
  runs = runs_of(workdir, declared, plans, profile_steps)
  content = _claim(workdir, config, declared)
  if search is not None and processes.is_first():
    search_results.write(search, workdir)
  if elsewhere is None:
    _run(workdir, runs)
  elif not all(map(_is_done, runs.values())):
    environment.record_command(workdir)
    elsewhere(list(runs.values()), _arguments(workdir, content, profile_steps))
  return _write_results(workdir, declared, runs) if processes.is_first() else None


def _arguments(
  workdir: files.Path, content: JsonObject, profile_steps: tuple[int, int] | None
) -> list[str]:
  """Return the arguments of a worker, except for its stages.

  It reads the config of this run, whatever other runs add to the workdir.
  """
  identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
  path = workdir / "configs" / f"{identity[:12]}.json"
  files.create_json(path, content)
  arguments = ["undo", f"--config={path}", f"--workdir={workdir}"]
  if profile_steps is not None:
    arguments.append("--profile_steps={}:{}".format(*profile_steps))
  return arguments


def run_part(
  config: builders.Config,
  workdir: str | os.PathLike[str],
  names: Sequence[str],
  *,
  profile_steps: tuple[int, int] | None = None,
) -> None:
  """Run some stages of a config, where all that they read is finished.

  Args:
    config: a ConfigDict, see undo_jax/config.
    workdir: the run directory.
    names: of stages, of all seeds, or of their directories, of one.
    profile_steps: updates of each stage to trace.

  Raises:
    ConfigError: if there is no such stage, or something that it reads is missing.
  """
  workdir, declared = files.path(workdir), declare(config)
  plans = {seed: declared.plan(seed) for seed in declared.config.seeds}
  runs = runs_of(workdir, declared, plans, profile_steps)
  tasks = named(list(runs.values()), names)
  _claim(workdir, config, declared)
  processes.on_first("inputs", lambda: check_inputs(tasks))
  _run(workdir, runs, {task.name for task in tasks})


def _write_results(
  workdir: files.Path, declared: Declared, runs: Mapping[int, Run]
) -> results.Results:
  """Write the results of all seeds; return them."""
  directories = {
    seed: {name: path.name for name, path in run.directories.items()}
    for seed, run in runs.items()
  }
  reading.write_plan(workdir, directories)
  run_results = reading.read(workdir, declared.config)
  files.update_json(workdir / "results.json", results.to_json(run_results))
  report.write(run_results, workdir)
  print(report.text_table(run_results))
  LOGGER.info("results are in %s", workdir / "report.html")
  return run_results


def run_single(
  kind: str,
  config: builders.Config,
  workdir: str | os.PathLike[str],
  *,
  checkpoint: str | os.PathLike[str] | None = None,
  models: Sequence[str] | None = None,
  profile_steps: tuple[int, int] | None = None,
) -> dict[str, Outcome]:
  """Run a part of a config; return done.json of what ran, by name.

  Without a checkpoint it is a part of `run_all`, with the same directories. With one,
  the checkpoint stands in the place of the model that the part starts from: what
  pretraining goes on with, what is unlearned, what teaches and is noised, what is
  attacked or scored.

  Args:
    kind: one of SINGLE.
    config: a ConfigDict, see undo_jax/config.
    workdir: the run directory.
    checkpoint: a stage's directory or Hugging Face's, or None.
    models: the names to make; None: all that the part makes.
    profile_steps: updates of each stage to trace.
  """
  config, declared, plans = plan_single(
    kind, config, checkpoint=checkpoint, models=models
  )
  workdir = files.path(workdir)
  _claim(workdir, config, declared)
  runs = runs_of(workdir, declared, plans, profile_steps)
  _run(workdir, runs)
  outcomes = {seed: running.outcomes(run) for seed, run in runs.items()}
  for seed, run in runs.items() if processes.is_first() else ():
    for stage in run.stages:
      print(f"{run.label}{stage.name}: {summary(outcomes[seed][stage.name])}")
      print(f"  {run.directories[stage.name]}")
  return {name: by_stage for of in outcomes.values() for name, by_stage in of.items()}


def plan_single(
  kind: str,
  config: builders.Config,
  *,
  checkpoint: str | os.PathLike[str] | None = None,
  models: Sequence[str] | None = None,
) -> tuple[builders.Config, Declared, dict[int, list[Stage]]]:
  """Return what `run_single` runs: the resulting config, and stages by seed."""
  if checkpoint is not None:
    config = put_checkpoint(config, kind, os.fspath(checkpoint))
  declared = declare(config)

  def part(plan: list[Stage]) -> list[Stage]:
    made = lineages.needed(plan, _made(declared.config, kind, plan))
    return made if models is None else lineages.needed(made, _named(made, models))

  plans = {seed: part(declared.plan(seed)) for seed in declared.config.seeds}
  return config, declared, plans


def put_checkpoint(
  config: builders.Config, kind: str, checkpoint: str
) -> builders.Config:
  """Return a config where a checkpoint is the model that a part starts from.

  Raises:
    ConfigError: if the part starts from several models.
  """
  # As the typed config has them: entries that are run, sweeps spelled out.
  entries = parse(config).models
  config = config.copy_and_resolve_references()
  config.unlock()
  if kind in ("relearn", "evaluate"):
    config.models = builders.block(**{GIVEN: builders.given(checkpoint)})
    config.references = builders.references()
    for attack in config.attacks.values():
      attack.models = ()
    return config
  made = {name: recipe for name, recipe in entries.items() if recipe.phase == kind}
  if kind == "pretrain":
    config.models[GIVEN] = builders.given(checkpoint)
    for name, recipe in made.items():
      config.models[recipe.family or name].start = GIVEN
    return config
  starts = {
    recipe.origin if kind == "unlearn" else recipe.frozen.get("teacher")
    for recipe in made.values()
  } - {None}
  # A checkpoint is an unlearned model; those that are pretrained may teach as well.
  if kind == "distill":
    starts = {name for name in starts if entries[str(name)].phase != "pretrain"}
  if len(starts) != 1:
    names = ", ".join(sorted(map(str, starts))) or "none"
    raise ConfigError(
      f"--checkpoint: expected a part that starts from one model, and this one starts "
      f"from {names}; give it as --config.models.NAME.checkpoint={checkpoint}"
    )
  name = str(starts.pop())
  config.models[entries[name].family or name].checkpoint = checkpoint
  return config


def _made(config: RunConfig, kind: str, plan: Sequence[Stage]) -> list[str]:
  """Return the stages of a part; only those of checkpoints, if it starts from any."""
  if kind == "relearn":
    return [stage.name for stage in plan if isinstance(stage, Against)]
  models = [stage.name for stage in lineages.models(plan)]
  if kind == "evaluate":
    return models
  given = {stage.name for stage in plan if isinstance(stage, GivenStage)}

  def is_made(name: str) -> bool:
    needs = {stage.name for stage in lineages.needed(plan, [name])}
    return config.models[name].phase == kind and (not given or bool(given & needs))

  return [name for name in models if name not in given and is_made(name)]


def _named(plan: Sequence[Stage], models: Sequence[str]) -> list[str]:
  """Return the stages that --models names: models by name, or their attacks."""
  names = [stage.name for stage in plan]
  chosen = []
  for model in models:
    of_model = [s.name for s in plan if isinstance(s, Against) and s.target == model]
    if model not in names:
      raise ConfigError(f"--models: {model!r} is none of {', '.join(names)}")
    chosen += of_model or [model]
  return chosen


def runs_of(
  workdir: files.Path,
  declared: Declared,
  plans: Mapping[int, Sequence[Stage]],
  profile_steps: tuple[int, int] | None = None,
) -> dict[int, Run]:
  """Return the run of each seed's plan."""
  config, runs = declared.config, {}
  for seed, plan in plans.items():
    names = {stage.name for stage in plan}
    runs[seed] = Run(
      workdir,
      declared.mesh,
      checkpoint_every=config.checkpoint_every,
      evaluation_rows=config.evaluation_rows,
      replicas_at_once=config.replicas_at_once,
      models_at_once=config.models_at_once,
      students_at_once=config.students_at_once,
      updates_at_once=config.updates_at_once,
      checkpoints_kept=config.checkpoints_kept,
      stages=tuple(plan),
      given={name: given for name, given in declared.given.items() if name in names},
      max_loss=config.max_loss,
      profile_steps=profile_steps,
      label=f"seed {seed}: " if len(config.seeds) > 1 else "",
      writers=config.writers,
    )
  return runs


def _run(
  workdir: files.Path, runs: Mapping[int, Run], only: Collection[str] | None = None
) -> None:
  """Run the stages of all seeds, one after the other; `only` some, by directory."""
  if processes.is_first():
    files.remove_leftovers(workdir)
  if processes.on_first("finished", lambda: all(map(_is_done, runs.values()))):
    LOGGER.info("nothing to run: all stages are finished")
  else:
    environment.record(workdir, is_part=only is not None)
  run_shared(list(runs.values()), only)


def _is_done(run: Run) -> bool:
  return all(run.done(stage.name) for stage in run.stages)


def _claim(
  workdir: files.Path, config: builders.Config, declared: Declared
) -> JsonObject:
  """Make the workdir the config's own, in the first process; return what is there."""
  model = records.to_json(declared.config.model)
  content = {"version": stages.VERSION, **plain(config), "model": model}
  processes.on_first("claim", lambda: claim_workdir(workdir, content))
  if not (workdir / "config.json").exists():
    raise ConfigError(
      f"--workdir must be a directory that all processes share, got {workdir}, which "
      f"process {jax.process_index()} does not see; give one on a shared disk or in a "
      "store"
    )
  return content
