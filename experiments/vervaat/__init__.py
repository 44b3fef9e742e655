"""Vervaat perpetuities, simulated exactly: Y has the law of U^(1 / beta) (1 + Y).

  sampler       coupling from the past under a dominating chain
  published     the updates of the published listing, which are not exact
  distribution  density and distribution function, from a delay differential equation

Reference: Cloud and Huber, Fast perfect simulation of Vervaat perpetuities, Journal of
Complexity 42 (2017), arXiv 1510.01780.
"""
