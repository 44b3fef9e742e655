"""Value-aware models: how much a model's error changes the return.

The study has the identity and its bounds on small tables, and a toy with a distractor
that only a value-aware loss ignores.

Reference: Modhe, Kamath, Batra and Kalyan, Model-Advantage and Value-Aware Models for
Model-Based Reinforcement Learning, arXiv 2106.14080.
"""
