"""Direct Inversion on a class-conditional diffusion model, and as a probe of UNDO.

COMMAND, results in runs/direct_inversion/results.json and figures/:

  python -m experiments.direct_inversion \
      --config=configs/direct_inversion/digits.py --workdir=runs/direct_inversion

Sizes: `digits` trains on scikit-learn's 8x8 digits, which need no download; `tiny` is
what tests run; `mnist` reads MNIST's IDX or TFDS files in data/mnist, at 14 x 14.

Reference: Elarabawy, Kamath and Denton, Direct Inversion, arXiv 2211.07825; UNDO, arXiv
2506.06278.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: digits, tiny or mnist."""
  size = c.parse_size(arg, ("digits", "tiny", "mnist"))
  config = c.table()
  config.seeds = (0, 1, 2)  # Each a training of its own of all models.
  config.seeds_at_once = 3  # Trained as one population; bounds the memory.
  config.data = c.block(
    path="",  # Of IDX or TFDS files; empty: scikit-learn's digits.
    shrink=1,  # So many pixels in a row and in a column become their mean.
  )
  config.schedule = c.block(  # 1,000 variances, whose roots are linear in time.
    beta_start=0.00085,  # The first, in (0, beta_end).
    beta_end=0.012,  # The last, below 1.
  )
  config.model = c.block(
    width=128,  # Of the residual blocks.
    depth=2,  # Number of them.
  )
  config.training = c.block(  # Of the models that the others start from.
    num_updates=2_000,  # Of Adam, its rate falling to 0.
    learning_rate=2e-3,  # The first one.
    batch_size=64,  # Of every training.
    label_dropout=0.15,  # Share of labels that become the empty prompt; [0, 1).
  )
  config.edit = c.block(  # The paper's hyper-parameters, as its notebook has them.
    num_inference_steps=100,  # A divisor of 1,000.
    inversion_steps=100,  # Likewise.
    guidance_scale=3.0,  # 1 or less: no guidance.
    noise_merge_lambda=0.5,  # [0, 1], 1: the recorded noises alone.
    direct_injection=True,  # Begin with the inverted image; else with fresh noise.
    stochastic_injection=True,  # Merge recorded noises into the predicted ones.
    num_stochastic_injection_steps=100,  # First steps of sampling that are merged.
    stochastic_injection_exp_method=True,  # Those of each step; else the latents.
    inversion_prompt="",  # A class, as "7"; empty: none.
    eta=0.0,  # [0, 1], 1: as much fresh noise as DDPM.
    shifted_noises=False,  # Ours: those with which a lambda of 1 goes back exactly.
  )
  config.edits = c.block(  # Of held-out images of one class into another.
    source=3,  # A class.
    target=8,  # Another.
    images=24,  # Held-out ones, as many as there are.
    guidance_scales=(1.0, 3.0, 5.0, 7.5),  # Columns of the pictures.
    noise_merge_lambdas=(0.0, 0.25, 0.5, 0.75, 1.0),  # Rows.
  )
  config.reconstruction = c.block(  # Inversion and back under the empty prompt.
    num_steps=(10, 20, 50, 100, 200),  # Divisors of 1,000.
    images=32,  # Held-out ones.
  )
  config.unlearning = c.block(
    label=3,  # The class that is unlearned, and that the oracle never sees.
    num_updates=500,  # From the trained model on.
    learning_rate=1e-3,  # The first one; it falls to 0.
  )
  config.undo = c.block(
    alphas=(0.3, 0.6, 0.9),  # Of the noise, each in (0, 1]; one model each.
    beta=0.1,  # Scale of the noise, [0, 1].
    num_updates=1_000,  # Of the distillation.
    learning_rate=2e-3,  # The first one; it falls to 0.
  )
  config.probe = c.block(  # The unlearned class, from inverted held-out images.
    other=8,  # Another class, whose images are sampled under its prompt too.
    images=24,  # Of both, as many as there are.
    noise_merge_lambdas=(0.0, 0.25, 0.5, 0.75, 1.0),  # For each image.
  )
  config.relearning = c.block(
    num_updates=(1, 2, 4, 8),  # On the class's training images, each anew.
    learning_rates=(3e-5, 1e-4, 3e-4),  # Constant; the worst one counts.
  )
  config.evaluation = c.block(  # Samples from fresh noise, by class.
    samples=48,  # Of the unlearned class.
    other_samples=16,  # Of each other class.
    num_inference_steps=25,  # A divisor of 1,000; guidance as in edit.
  )
  if size == "tiny":
    config.seeds = (0, 1)
    config.seeds_at_once = 2
    config.model.update(width=16, depth=1)
    config.training.update(num_updates=4, batch_size=8)
    config.edit.update(
      num_inference_steps=4, inversion_steps=4, num_stochastic_injection_steps=4
    )
    config.edits.update(
      images=2, guidance_scales=(1.0, 3.0), noise_merge_lambdas=(0.0, 1.0)
    )
    config.reconstruction.update(num_steps=(4, 5), images=2)
    config.unlearning.num_updates = 2
    config.undo.update(alphas=(0.5,), num_updates=2)
    config.probe.update(images=2, noise_merge_lambdas=(0.0, 1.0))
    config.relearning.update(num_updates=(1, 2), learning_rates=(1e-3, 1e-2))
    config.evaluation.update(samples=4, other_samples=1, num_inference_steps=4)
  if size == "mnist":
    config.data.update(path="data/mnist", shrink=2)
    config.model.update(width=512, depth=4)
    config.training.update(num_updates=40_000, learning_rate=1e-3, batch_size=128)
    config.unlearning.update(num_updates=2_000, learning_rate=3e-4)
    config.undo.update(num_updates=15_000, learning_rate=1e-3)
  return config
