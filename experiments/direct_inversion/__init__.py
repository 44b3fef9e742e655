"""Direct Inversion on a small diffusion model, and as a probe of unlearning.

  schedule    noise by time, and steps along it
  inversion   images into noise and back, with direct and stochastic injection
  model       a class-conditional denoiser
  training    its losses: pretraining, unlearning, distillation
  population  the models of all seeds at once: UNDO beside an oracle
  probes      the measurements on them

Reference: Elarabawy, Kamath and Denton, Direct Inversion: Optimization-Free Text-Driven
Real Image Editing with Diffusion Models, arXiv 2211.07825.
"""
