r"""The frontier of arithmetic: what robustness costs, over seeds and many attacks.

COMMAND, an hour on 2 cores; ends in its report.html:

  python -m experiments.frontier --config=configs/frontier.py:tiny \
      --workdir=runs/frontier --num_workers=2

The models are those of configs/arithmetic.py:tiny, each with three seeds: five
unlearning methods, UNDO at four strengths, a noised model finetuned on filtered data
(it needs no teacher but all labels), and data filtering at several lengths, which shows
what it costs to retain as much as another model. There are two attackers with three
seeds each, at learning rates a factor of 1.8 apart: one has forget data alone, the
other mixes retain data in. `quick` has fewer of all of these. `variance`, ten minutes,
runs one UNDO model under all combinations of three noises, three orders of distillation
and three attackers, to show where its spread comes from.

`undo-jax search` can search the models' hyper-parameters beforehand; --chosen gives its
choice to this command (docs/search.md).

If a model, a seed or an attack is added to a finished workdir, only what is new is run:
--config.seeds="(0,1,2,3)". Attacks without training are added by
--config.attacks.pruning.run=True, and likewise quantization, weight_noise,
interpolation_to_base and difference_rank.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: tiny, quick or variance."""
  size = c.parse_size(arg, ("tiny", "quick", "variance"))
  config = c.shipped("arithmetic:tiny")
  config.seeds = (0, 1, 2)
  models = config.models
  models.oracle_matching.run = False
  for name in ("max_ent_sam", "max_ent_rep_noise"):
    models[name].run = True
  models.undo.sweep.noise.alpha = (0.3, 0.5, 0.6, 0.7)
  # The teacher runs once over the rows for all alphas and for unlearn_and_distill.
  models.undo.teacher_predictions.keep = True
  # Shorter schedules show what filtering costs at a given retain score.
  models.filtering = c.like(
    models.data_filtering, sweep={"optimizer": {"num_steps": (500, 600)}}
  )
  c.look(models.filtering, "shorter filtering", "Greys", "X")
  models.filtering.is_attacked = models.base.is_attacked = False
  models.noised_finetune = c.noised_finetune(
    alphas=(0.6,),
    mixture="data_filtering",
    optimizer=c.cosine(num_steps=300, learning_rate=2e-3),
    batch_size=128,
  )
  _declare_attacks(config)
  config.report = c.report(budgets=(20, 60, 120), filtering=("filtering",))
  if size == "variance":
    _make_variance(config)
    return config
  _declare_search(config)
  if size == "quick":
    _make_quick(config)
  return config


def _declare_attacks(config: c.Config) -> None:
  config.mixtures.attack_mixed = c.like(config.mixtures.attack, retain=0.5, attack=0.5)
  relearn = config.attacks.relearn
  relearn.update(
    learning_rates=(1e-4, 1.8e-4, 3.2e-4, 5.6e-4, 1e-3),
    num_steps=120,
    evaluate_every=20,
    evaluations_per_call=6,
    seeds=(0, 1, 2),
  )
  config.attacks.relearn_mixed = c.like(
    relearn, mixture="attack_mixed", learning_rates=(1.8e-4, 3.2e-4, 5.6e-4)
  )
  config.attacks.relearn_mixed.label = "full finetuning, retain data mixed in"
  # arithmetic:tiny declares the edits; this one draws anew for each attack seed.
  config.attacks.weight_noise.seeds = relearn.seeds


def _declare_search(config: c.Config) -> None:
  """Declare, for the search before the tables, what is searched for each model."""
  config.attacks.search = c.like(
    config.attacks.relearn,
    run=False,
    scores="validation",
    seeds=(1000,),
    num_steps=60,
    learning_rates=(1.8e-4, 4.2e-4, 1e-3),
  )
  rate = "optimizer.learning_rate"
  decays = ("optimizer.final_learning_rate",)
  config.search = c.search(
    attack="search",
    models={
      "data_filtering": (
        c.log_uniform(rate, 5e-4, 8e-3, tied=decays),
        c.choices("batch_size", 64, 96, 128),
        c.integers("optimizer.num_steps", 400, 800),
      ),
      "max_ent": (
        c.log_uniform(rate, 1e-4, 3e-3),
        c.log_uniform("options.retain_weight", 0.1, 10.0),
        c.integers("optimizer.num_steps", 20, 120),
      ),
      "undo": (
        c.uniform("noise.alpha", 0.2, 0.8),
        c.log_uniform(rate, 5e-4, 8e-3, tied=decays),
        c.integers("optimizer.num_steps", 100, 600),
        c.log_uniform("options.temperature", 1.0, 4.0),
      ),
    },
  )


def _make_quick(config: c.Config) -> None:
  config.seeds = (0, 1)
  models = config.models
  for name in ("grad_diff", "rmu", "max_ent_sam", "max_ent_rep_noise"):
    models[name].run = False
  models.filtering.sweep.optimizer.num_steps = (600,)
  models.noised_finetune.run = False
  models.undo.sweep.noise.alpha = (0.3, 0.6)
  config.attacks.relearn.update(
    learning_rates=(1.8e-4, 4.2e-4, 1e-3), num_steps=60, seeds=(0, 1)
  )
  config.attacks.weight_noise.seeds = (0, 1)
  config.attacks.relearn_mixed.run = False
  config.report.budgets = (20, 60)
  config.search.trials = 4


def _make_variance(config: c.Config) -> None:
  config.seeds = (0,)
  models = config.models
  for name in models:
    models[name].run = name in ("base", "max_ent", "undo")
  seeds = (0, 1, 2)
  models.undo.sweep = {
    "noise": {"alpha": (0.6,)},
    "streams": {"noise": seeds, "distill_data": seeds},
  }
  # The budget is fixed, since a stop rule would add a spread of its own.
  models.undo.stop.rule = None
  models.undo.optimizer.num_steps = 240
  models.max_ent.is_attacked = False
  config.attacks.relearn.update(
    learning_rates=(3.2e-4, 5.6e-4, 1e-3), num_steps=60, evaluations_per_call=3
  )
  config.attacks.relearn_mixed.run = False
  config.references.update(filtered=None, unlearned=None)
  config.report.filtering = ()
  config.report.budgets = (20, 60)
