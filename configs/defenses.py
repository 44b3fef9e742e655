r"""Unlearning methods against attacks, each method after as many trials of a search.

COMMANDS, hours on 2 cores (--dry_run says how many); they end in
runs/defenses/report.html:

  undo-jax search --config=defenses:tiny --workdir=runs/defenses
  undo-jax frontier --config=defenses:tiny --workdir=runs/defenses --num_workers=2 \
      --chosen=runs/defenses/search/search.json

`tiny` is the arithmetic task, `facts` the made-up facts of configs/wmdp.py. Every
method of these configs is run with three seeds, next to data filtering, UNDO and a
noised model that is finetuned on filtered data. Two fields of each method are searched,
its learning rate and as a rule the weight of the retain loss. A trial counts if its
model retains nearly as much as the base and predicts much the same on data to be kept;
of these the one that best withstands a short attack is chosen. Neither the seed of the
trials nor the items they are scored on are in the tables. `quick` has three methods and
two trials of each.

The attacks are of all kinds: relearning, training beside frozen weights, and edits.
"""

from undo_jax import config as c

# Methods with the field that is searched beside the learning rate; task arithmetic and
# noise have none.
METHODS = {
  "grad_diff": "options.retain_weight",
  "max_ent": "options.retain_weight",
  "rmu": "options.retain_weight",
  "npo": "options.retain_weight",
  "simnpo": "options.retain_weight",
  "idk_dpo": "options.retain_weight",
  "wga": "options.retain_weight",
  "satimp": "options.retain_weight",
  "ce_u": "options.retain_weight",
  "undial": "options.retain_weight",
  "jensun": "options.retain_weight",
  "adaptive_rmu": "options.retain_weight",
  "circuit_breakers": "options.strength",
  "latent_adversarial": "options.retain_weight",
  "tamper_resistance": "options.retain_weight",
  "invariant": "options.retain_weight",
  "mudman": "options.retain_weight",
  "rep_select": "options.adversary_rate",
  "distance": "options.distance_weight",
  "task_vector": None,
  "weight_distortion": None,
  "max_ent_sam": "options.retain_weight",
  "max_ent_rep_noise": "options.retain_weight",
  "max_ent_smooth": "options.retain_weight",
  "max_ent_penalty": "options.retain_weight",
  "max_ent_curvature": "options.retain_weight",
  "max_ent_averaged": "options.retain_weight",
  "max_ent_masked": "options.retain_weight",
  "max_ent_attributed": "options.retain_weight",
  # Of its last fold; the folds before it have the config's values.
  "layered_max_ent": "options.retain_weight",
}
# What the methods are compared with.
BOUNDS = ("base", "data_filtering", "undo", "noised_finetune")
QUICK = ("max_ent", "npo", "rmu")
# Attacks beside `relearn`, all within as many updates: by training, and by edits.
ATTACKS = (
  "lora_16",
  "muon",
  "few_60",
  "retain_first",
  "logit_calibration",
  "soft_prompt",
  "latent_push",
  "pruning",
  "quantization",
  "weight_noise",
  "direction_ablation",
  "few_shot",
)
FACTOR = 10.0  # A searched value is at most so many times above or below the config's.


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: tiny, facts or quick."""
  size = c.parse_size(arg, ("tiny", "facts", "quick"))
  is_facts = size == "facts"
  config = c.shipped("wmdp:tiny" if is_facts else "arithmetic:tiny")
  config.seeds = (0, 1) if size == "quick" else (0, 1, 2)
  models = config.models
  if is_facts:  # Methods that the config of facts does not have.
    models.rmu = c.unlearn(
      "rmu",
      options=c.rmu(layers=(0, 1), coefficient=20.0, retain=10.0),
      optimizer=c.optimizer(num_steps=60, learning_rate=1e-3),
      batch_size=models.max_ent.batch_size,
    )
    models.max_ent_sam = c.sharpness_aware(models.max_ent)
    models.max_ent_rep_noise = c.rep_noise(models.max_ent)
  models.noised_finetune = c.noised_finetune(
    alphas=(0.6,),
    mixture="data_filtering",
    optimizer=c.like(models.undo.optimizer, num_steps=300),
    batch_size=models.undo.batch_size,
    beta=models.undo.noise.beta,
  )
  models.undo.sweep.noise.alpha = (0.6,)
  methods = QUICK if size == "quick" else tuple(METHODS)
  for name in models:
    if not name.startswith("layered_max_ent_"):  # Folds, run when the last one is.
      models[name].run = name in (*BOUNDS, *methods)
  models.base.is_attacked = False
  attack, forget = ("qa", "attacked") if is_facts else ("relearn", "attack")
  relearn = config.attacks[attack]
  if is_facts:
    relearn.batch_size = 16  # About as many tokens as a batch of equations.
  _declare_attacks(config, relearn, forget)
  trials = 2 if size == "quick" else 6
  config.search = c.search(
    attack="search",
    models={name: _ranges(models[name], METHODS[name]) for name in methods},
    trials=trials,
    startup=min(trials, 3),
    smallest_retain=0.95,
    largest_compute=None,
    largest_divergence=0.25,
  )
  return config


def _declare_attacks(config: c.Config, relearn: c.Config, forget: str) -> None:
  """Declare the attacks of the tables and, with seeds of its own, that of the search.

  Args:
    config: of the run.
    relearn: its entry of full finetuning, which others follow.
    forget: the mixture of forget data alone that the attacker has.
  """
  relearn.update(
    learning_rates=(3.2e-4, 1e-3, 3.2e-3),
    num_steps=60,
    evaluate_every=20,
    evaluations_per_call=3,
  )
  attacks = config.attacks
  layers = config.model.num_layers
  # Again, since some of their rates and updates are multiples of the above.
  c.further_attacks(attacks, relearn, num_layers=layers, forget=forget, ranks=(16,))
  attacks.lora_16.learning_rates = attacks.muon.learning_rates = (3.2e-3, 1e-2, 3.2e-2)
  for name in ATTACKS:
    attacks[name].run = True
  attacks.search = c.like(relearn, run=False, scores="validation", seeds=(1000,))
  attacks.search.num_steps = 40
  config.report = c.report(budgets=(20, 60))


def _ranges(entry: c.Config, field: str | None) -> tuple[c.Config, ...]:
  """Return the ranges of an entry's learning rate and of another field, if any."""
  ranges = []
  for path in filter(None, ("optimizer.learning_rate", field)):
    block, name = path.split(".")
    value = entry[block][name]
    low, high = (float(f"{x:g}") for x in (value / FACTOR, value * FACTOR))
    ranges.append(c.log_uniform(path, low, high))
  return tuple(ranges)
