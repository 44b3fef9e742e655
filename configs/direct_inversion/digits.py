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
  config.seeds = (0, 1, 2)  # For each of them all models are trained.
  config.seeds_at_once = 3  # Trained as one population; bounds the memory.
  config.data = c.block(
    path="",  # Directory of IDX or TFDS files; empty: scikit-learn's digits.
    shrink=1,  # Blocks of shrink x shrink pixels become their mean.
  )
  config.schedule = c.block(  # 1,000 variances; their roots are linear in time.
    beta_start=0.00085,  # The first, in (0, beta_end).
    beta_end=0.012,  # The last, below 1.
  )
  config.model = c.block(
    width=128,  # Width of the residual blocks.
    depth=2,  # Number of residual blocks.
  )
  config.training = c.block(  # Training of the models that the others start from.
    num_updates=2_000,  # Updates of Adam; the learning rate falls to 0.
    learning_rate=2e-3,  # At the first update.
    batch_size=64,  # In every training.
    label_dropout=0.15,  # Share of labels that become the empty prompt; [0, 1).
  )
  config.edit = c.block(  # The paper's hyper-parameters, as its notebook has them.
    num_inference_steps=100,  # Must divide 1,000.
    inversion_steps=100,  # Must divide 1,000.
    guidance_scale=3.0,  # 1 or less: no guidance.
    noise_merge_lambda=0.5,  # In [0, 1]; 1 takes the recorded noises alone.
    direct_injection=True,  # Begin with the inverted image, or else with fresh noise.
    stochastic_injection=True,  # Merge recorded noises into the predicted ones.
    num_stochastic_injection_steps=100,  # The first steps of sampling, which merge.
    stochastic_injection_exp_method=True,  # Merge each step's noises, else the latents.
    inversion_prompt="",  # A class, for example "7"; empty: no prompt.
    eta=0.0,  # In [0, 1]; 1 adds as much fresh noise as DDPM.
    shifted_noises=False,  # Not in the paper: a lambda of 1 then goes back exactly.
  )
  config.edits = c.block(  # Edits of held-out images of one class into another.
    source=3,  # A class.
    target=8,  # Another class.
    images=24,  # Number of held-out images; fewer if there are fewer.
    guidance_scales=(1.0, 3.0, 5.0, 7.5),  # Columns of the grid of pictures.
    noise_merge_lambdas=(0.0, 0.25, 0.5, 0.75, 1.0),  # Rows of the grid.
  )
  config.reconstruction = c.block(  # Inversion and back under the empty prompt.
    num_steps=(10, 20, 50, 100, 200),  # Must divide 1,000.
    images=32,  # Number of held-out images.
  )
  config.unlearning = c.block(
    label=3,  # The class that is unlearned, and that the oracle never sees.
    num_updates=500,  # Starting from the trained model.
    learning_rate=1e-3,  # At the first update; it falls to 0.
  )
  config.undo = c.block(
    alphas=(0.3, 0.6, 0.9),  # Of the noise, in (0, 1]; each makes one model.
    beta=0.1,  # Scale of the noise, in [0, 1].
    num_updates=1_000,  # Updates of the distillation.
    learning_rate=2e-3,  # At the first update; it falls to 0.
  )
  config.probe = c.block(  # Recovers the unlearned class from held-out images.
    other=8,  # Images of this class are sampled under the unlearned prompt too.
    images=24,  # Images of both classes; fewer if there are fewer.
    noise_merge_lambdas=(0.0, 0.25, 0.5, 0.75, 1.0),  # Tried on each image.
  )
  config.relearning = c.block(
    num_updates=(1, 2, 4, 8),  # On the class's training images; each starts anew.
    learning_rates=(3e-5, 1e-4, 3e-4),  # Each is constant; the worst one counts.
  )
  config.evaluation = c.block(  # Samples from fresh noise, by class.
    samples=48,  # Samples of the unlearned class.
    other_samples=16,  # Samples of each other class.
    num_inference_steps=25,  # Must divide 1,000; the guidance is that of `edit`.
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
