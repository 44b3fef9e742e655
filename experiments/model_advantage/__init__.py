"""Value-aware models: how much a model's error changes the return.

The study has the identity and its bounds on small tables, a toy with a distractor that
only a value-aware loss ignores, control of two pendulums by models trained on such
losses, and an objective of distillation that weights KL by value
(value_distillation.py).

Reference: Modhe, Kamath, Batra and Kalyan, Model-Advantage and Value-Aware Models for
Model-Based Reinforcement Learning, arXiv 2106.14080.
"""
