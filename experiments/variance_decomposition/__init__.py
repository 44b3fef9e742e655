"""How much of a game's outcome is due to two players' strategies, and to chance.

Variance components of Kuhn's and Leduc poker in closed form, and estimators of them
from samples, which are the same as for the seeds of a training run.

Reference: Cloud and Laber, Variance decompositions for extensive-form games, IEEE
Conference on Games 2021, arXiv 2009.04834.
"""
