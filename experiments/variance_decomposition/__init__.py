"""Which part of a game's outcome is due to whom: two players' strategies, and chance.

Variance components of Kuhn's and Leduc poker in closed form, and their estimators from
samples, which are those that serve for the seeds of a training run.

Reference: Cloud and Laber, Variance decompositions for extensive-form games, IEEE
Conference on Games 2021, arXiv 2009.04834.
"""
