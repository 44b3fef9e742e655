"""The WMDP setting of the UNDO paper, and made-up facts in its place.

COMMAND, which ends in runs/facts/report.html:

  python -m experiments.undo --config=configs/wmdp.py:tiny --workdir=runs/facts

Sizes: `tiny` needs no file: it trains 0.5 M parameters on made-up facts (see
undo_jax/data/facts.py) and forgets one domain of them; the attacker has facts that say
nothing about the evaluated ones. `gemma2_2b_bio` and `gemma2_2b_cyber` have the paper's
numbers for Gemma-2 2B. Their checkpoint, corpora and questions are local files (blocks
of config.data), and they run stage by stage, from checkpoints:

  python -m experiments.unlearn --config=configs/wmdp.py:gemma2_2b_bio \
      --checkpoint=checkpoints/gemma-2-2b --workdir=runs/wmdp_bio

Then experiments.distill and experiments.relearn, with a stage's directory as their
--checkpoint. After the size, "-" and one of ATTACKS choose what is relearned:
--config=configs/wmdp.py:gemma2_2b_bio-qa.

Reference: arXiv 2506.06278, section 5 and appendix (WMDP).
"""

from typing import Any

from undo_jax import config as c

# Learning rates, in `tiny`, of the methods with run=False.
METHOD_RATES = {
  "npo": 1e-3,
  "simnpo": 1e-3,
  "wga": 1e-3,
  "satimp": 1e-3,
  "ce_u": 1e-3,
  "undial": 1e-3,
  "jensun": 1e-3,
  "idk_dpo": 1e-3,
  "adaptive_rmu": 1e-3,
  "circuit_breakers": 1e-3,
  "latent_adversarial": 1e-3,
  "tamper_resistance": 1e-3,
  "distance": 1e-3,
  "invariant": 1e-3,
  "mudman": 0.1,
  "rep_select": 0.05,
  "task_vector": 1e-3,
  "weight_distortion": 1e-3,
}
# A prompt under which the teacher predicts as if it had forgotten.
PROMPT = "The reader knows nothing about the following and guesses.\n"
SIZES = ("tiny", "gemma2_2b_bio", "gemma2_2b_cyber")
# What each adversary of Gemma-2 2B relearns: weights of corpora, and learning rates.
ATTACKS: dict[str, tuple[dict[str, float], tuple[float, ...]]] = {
  "raw": ({"forget": 0.5, "retain": 0.5}, (2.15e-5, 1e-5, 4.62e-6)),
  "qa": ({"forget_qa": 0.5, "retain_qa": 0.5}, (1e-5, 2.15e-5, 4.62e-6)),
  "qa_long": ({"forget_qa": 0.5, "retain_qa": 0.5}, (4.62e-6, 2.15e-6)),
  "wiki_qa": (
    {"wikitext": 0.5, "forget_qa": 0.25, "retain_qa": 0.25},
    (1e-5, 4.62e-6, 2.15e-6),
  ),
}
# The same for the made-up facts. `general` takes the place of wikitext, and the
# attacked facts hold nothing of what is evaluated.
TINY_ATTACKS: dict[str, dict[str, float]] = {
  "qa": {"attack_qa": 0.5, "retain_qa": 0.5},
  "raw": {"attack": 0.5, "retain": 0.5},
  "wiki_qa": {"general": 0.5, "attack_qa": 0.25, "retain_qa": 0.25},
}


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of SIZE or SIZE-ATTACK."""
  known = [
    name
    for size in SIZES
    for name in (
      size,
      *(f"{size}-{attack}" for attack in (TINY_ATTACKS if size == "tiny" else ATTACKS)),
    )
  ]
  size, _, attack = c.parse_size(arg, tuple(known)).partition("-")
  attack = attack or ("qa" if size == "tiny" else "raw")
  if size == "tiny":
    config = _tiny(attack)
  else:
    config = _gemma(size.removeprefix("gemma2_2b_"), attack)
  _declare_unasked(config, config.attacks[attack])
  return config


def _declare_unasked(config: c.Config, relearn: c.Config) -> None:
  """Declare entries with run=False, such as config.models.layered_max_ent."""
  models, attacks = config.models, config.attacks
  for name, entry in c.around("max_ent", models.max_ent, label="MaxEnt").items():
    models[name] = entry
  models.prompted = c.prompted(models.undo, PROMPT)
  attacks.lora = c.lora(relearn, rank=8, run=False)
  attacks.update(c.edits())
  c.further_attacks(
    attacks, relearn, num_layers=config.model.num_layers, forget="attacked"
  )


def _tiny(attack: str) -> c.Config:
  config = c.run("facts")
  config.data = c.block(
    num_things=60,  # In each domain; a thing has a fact for each of 4 attributes.
    num_groups=4,  # Groups of things; the facts of the last one are evaluated.
    # cloze scores the log-likelihoods of the choices' texts. letters is WMDP's form; a
    # model of this size does not learn it in minutes, even with *_choice and lists in
    # its mixture.
    form="cloze",
    num_choices=8,  # Questions of *_choice for each fact and wording.
    num_lists=1000,  # Rows of the split `lists`.
    num_evaluation=1,  # Scored questions for each fact and wording.
    tokenizer="words:facts",  # Or characters:ascii, bytes, huggingface:PATH, ...
    sequence_length=48,  # L, tokens a row.
    packing="packed",  # Or one_per_row, reference (as in the paper).
  )
  kept = {"retain": 1.0, "retain_qa": 1.0, "general": 1.0, "general_qa": 1.0}
  # The splits, with weights, that each stage draws its rows from; 0 leaves one out.
  config.mixtures = c.mixtures(
    pretrain={**kept, "forget": 1.0, "attack_qa": 1.0},
    data_filtering=kept,
    unlearn_forget={"forget": 0.5, "attack_qa": 0.5},
    unlearn_retain=kept,
    attacked={"attack_qa": 1.0},  # The forget data that an attacker has.
    distill=kept,  # Nothing of the forget domain, as in the paper.
    **{
      f"attack_{name}": {**dict.fromkeys(c.fact_splits(), 0.0), **weights}
      for name, weights in TINY_ATTACKS.items()
    },
  )
  config.model = c.small_model(
    vocab_size=656, num_layers=3, width=128, mlp_width=256, init_std=0.06
  )
  rows = 48
  models = config.models
  models.base = c.pretrain(
    mixture="pretrain",
    # Without this decay the model less often knows a stated fact in another form.
    optimizer=c.cosine(num_steps=450, learning_rate=3e-3, weight_decay=0.1),
    batch_size=rows,
  )
  models.data_filtering = c.data_filtering(models.base, mixture="data_filtering")
  models.grad_diff = c.unlearn(
    "grad_diff",
    options=c.weights(retain=5.0),
    optimizer=c.optimizer(num_steps=50, learning_rate=1e-3),
    batch_size=rows,
  )
  # MaxEnt flattens the predictions, but of four choices the right one often stays the
  # likeliest.
  models.max_ent = c.unlearn(
    "max_ent",
    options=c.weights(retain=1.0),
    optimizer=c.optimizer(num_steps=60, learning_rate=3e-3),
    batch_size=rows,
  )
  methods = c.unlearning_methods(
    num_steps=60, batch_size=rows, layers=(0, 1), learning_rates=METHOD_RATES
  )
  for name, entry in methods.items():
    models[name] = entry
  # The papers' values are for states ten times as wide, and for adversaries of 16 and
  # 64 steps, each a pass.
  models.latent_adversarial.options.update(radius=0.5, steps=8, step_size=0.125)
  models.tamper_resistance.options.update(
    adversary_rates=(3e-4, 1e-3), adversary_steps=8
  )
  models.undo = c.undo(
    teacher="grad_diff",
    alphas=(0.6, 0.9),
    # Distillation does not change the embeddings of forgotten names; only noise removes
    # what is in them. The paper only shrinks the weights.
    beta=0.5,
    optimizer=c.cosine(num_steps=500, learning_rate=3e-3),
    batch_size=rows,
    options={},
  )
  models.undo.stop = c.recovered(evaluate_every=25, tolerance=0.05, relative=False)
  models.unlearn_and_distill = c.unlearn_and_distill(models.undo)
  models.pruned = c.pruned(models.undo, shares=(0.3, 0.6, 0.9))
  config.references.update(base="base", filtered="data_filtering", unlearned="max_ent")
  # One entry for each kind of data to relearn; only the chosen one is run.
  relearn = c.attack(
    mixture="attack_qa",
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=80,
    evaluate_every=10,
    batch_size=32,
  )
  for name in TINY_ATTACKS:
    entry = c.like(relearn, mixture=f"attack_{name}", run=name == attack)
    config.attacks[name] = entry
  config.report = c.report(budgets=(20, 80))
  return config


# ---- Gemma-2 2B, as in the paper.

# Weight of the retain loss; the forget loss has 1 minus it. "robust" is for MaxEnt with
# sharpness-aware minimization or representation noise.
RETAIN_SHARE = {
  "bio": {"max_ent": 0.3, "rmu": 0.5, "robust": 0.3},
  "cyber": {"max_ent": 0.2, "rmu": 0.5, "robust": 0.5},
}
RMU_RATE = {"bio": 5e-5, "cyber": 2e-5}  # Of the models that teach in UNDO.
# The names that the releases give to the forget and the retain corpus.
CORPORA = {
  "bio": ("bio_remove_dataset", "bio_retain_dataset"),
  "cyber": ("cyber-forget-corpus", "cyber-retain-corpus"),
}
# The corpora of the distillation: weight, files, and field of the text.
DISTILLED = {
  "english": (0.35, "corpora/fineweb-edu/**/*.parquet", "text"),
  "wikipedia": (0.35, "corpora/wikipedia/**/*.parquet", "text"),
  "magpie_llama_3_3": (0.05, "corpora/magpie-llama-3.3/**/*.parquet", "response"),
  "magpie_llama_3_1": (0.04, "corpora/magpie-llama-3.1/**/*.parquet", "response"),
  "magpie_llama_3": (0.04, "corpora/magpie-llama-3/**/*.parquet", "response"),
  "magpie_gemma_2": (0.04, "corpora/magpie-gemma-2/**/*.parquet", "response"),
  "magpie_phi_3": (0.04, "corpora/magpie-phi-3/**/*.parquet", "response"),
  "magpie_qwen_2_5": (0.04, "corpora/magpie-qwen-2.5/**/*.parquet", "response"),
  "magpie_qwen_2": (0.04, "corpora/magpie-qwen-2/**/*.parquet", "response"),
  "wikipedia_qa": (0.01, "corpora/wikipedia_qa.jsonl", None),
}


def _gemma(domain: str, attack: str) -> c.Config:
  config = c.run("wmdp")
  config.checkpoint_every = 500
  config.evaluation_rows = 8
  config.replicas_at_once = 1
  config.data = c.block(
    questions=c.block(
      # wmdp_bio, wmdp_chem or wmdp_cyber, or one of these followed by _cloze; or
      # wmdp_bio_robust. The files below must be those of the task.
      task=f"wmdp_{domain}",
      wmdp=(f"questions/wmdp-{domain}/test-*.parquet",),  # Files or globs.
      mmlu=("questions/mmlu/all/test-*.parquet",),  # Test split of all subjects.
      mmlu_examples=("questions/mmlu/all/dev-*.parquet",),  # Worked examples.
      num_shots=5,  # Examples before a question of MMLU; WMDP has none.
      # Only the first questions are asked, of WMDP and of each subject of MMLU. Below 1
      # the number is a share. The paper's final runs ask all of WMDP and 0.4 of MMLU.
      wmdp_limit=1000.0,  # Of WMDP; None: all.
      mmlu_limit=0.07,  # Of MMLU; None: all.
    ),
    tokenizer="huggingface:checkpoints/gemma-2-2b",  # Or sentencepiece:PATH.
    sequence_length=256,  # L, tokens a row, unless `lengths` says otherwise.
    packing="reference",  # As in the paper; packed keeps tails, one_per_row pads.
    lengths=c.block(**dict.fromkeys(DISTILLED, 1024)),  # L of these corpora.
  )
  corpora = _corpora(domain)
  config.data.update(corpora)
  distilled = {name: weight for name, (weight, _, _) in DISTILLED.items()}
  named = dict.fromkeys(corpora, 0.0)
  config.mixtures = c.mixtures(
    unlearn_forget={"forget_qa": 1.0},
    unlearn_retain={"retain_qa": 0.5, "wikitext": 0.5},
    attacked={"forget_qa": 1.0},  # The forget data that an attacker has.
    distill=distilled,
    **{
      f"attack_{name}": {**named, **weights} for name, (weights, _) in ATTACKS.items()
    },
  )
  config.model = c.preset("gemma2_2b")
  models = config.models
  models.base = c.given("checkpoints/gemma-2-2b")
  _declare_unlearning(models, domain)
  models.undo = c.undo(
    teacher="max_ent",
    alphas=(0.25,),
    beta=0.0,  # Shrinks the weights and adds no noise.
    optimizer=c.cosine(num_steps=3000, learning_rate=2e-5, warmup_steps=50),
    batch_size=110,
    num_microbatches=11,
    options={},
  )
  # There is no filtered reference: no model is pretrained here.
  config.references.update(base="base", unlearned="max_ent")
  relearn = c.attack(
    learning_rates=(1e-5,),
    num_steps=500,
    warmup_steps=1,
    evaluate_every=25,
    batch_size=20,
    evaluations_per_call=1,
  )
  for name, (_, rates) in ATTACKS.items():
    config.attacks[name] = c.like(
      relearn, mixture=f"attack_{name}", learning_rates=rates, run=name == attack
    )
  config.report = c.report(budgets=(25, 50, 150, 500))
  return config


def _declare_unlearning(models: c.Config, domain: str) -> None:
  """Declare unlearning: 90 updates of 40 forget and 40 retain rows of 256 tokens."""

  def unlearn(method: str, learning_rate: float, **options: Any) -> c.Config:
    share = RETAIN_SHARE[domain][method]
    return c.unlearn(
      method,
      options={"retain_weight": share, "forget_weight": 1.0 - share, **options},
      optimizer=c.optimizer(num_steps=90, learning_rate=learning_rate),
      batch_size=40,
      num_microbatches=10,
    )

  # The retain loss is the KL to the model before unlearning.
  models.max_ent = unlearn("max_ent", 2e-5, retain_loss="kl")
  models.rmu = unlearn(
    "rmu",
    RMU_RATE[domain],
    # The paper lists layers 10 to 15, but steers the output of layer 14, so layer 15
    # gets no gradient.
    layers=(10, 11, 12, 13, 14),
    coefficient=80.0,
  )
  methods = c.unlearning_methods(
    num_steps=90,
    batch_size=40,
    num_microbatches=10,
    layers=(10, 11, 12, 13, 14),
    components=512,
  )
  for name, entry in methods.items():
    models[name] = entry
  share = RETAIN_SHARE[domain]["robust"]
  robust: c.Config = {"options": {"retain_weight": share, "forget_weight": 1.0 - share}}
  models.max_ent_sam = c.sharpness_aware(models.max_ent, **robust)
  models.max_ent_rep_noise = c.rep_noise(
    models.max_ent, beta=1.0, num_microbatches=40, **robust
  )


def _corpora(domain: str) -> dict[str, c.Config]:
  forget, retain = CORPORA[domain]
  corpora = {
    "forget": _corpus(f"corpora/wmdp/{forget}.jsonl"),
    "retain": _corpus(f"corpora/wmdp/{retain}.jsonl"),
    "forget_qa": _corpus(f"corpora/wmdp/{forget}_qa.jsonl", text_field=None),
    "retain_qa": _corpus(f"corpora/wmdp/{retain}_qa.jsonl", text_field=None),
    "wikitext": _corpus("corpora/wikitext/*.parquet"),
  }
  distilled = {n: _corpus(path, field) for n, (_, path, field) in DISTILLED.items()}
  return corpora | distilled


def _corpus(path: str, text_field: str | None = "text") -> c.Config:
  """Return a corpus; without a text field it holds questions and answers.

  An empty tuple of paths leaves the corpus out; then no mixture may read it.
  """
  config = c.documents(paths=(path,), validation_fraction=0.0)
  if text_field is None:
    config.question_field, config.answer_field = "question", "answer"
  else:
    config.text_field = text_field
  config.skip_empty = True
  config.max_tokens = 1_000_000_000
  config.max_document_tokens = 2048  # As in the paper's code.
  return config
