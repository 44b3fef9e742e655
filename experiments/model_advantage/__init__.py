"""Value-aware models: what an error of a model changes in the return.

The identity and its bounds on small tables, a toy whose distractor only a value-aware
loss leaves out, control of two pendulums by models that are trained on such losses, and
an objective of distillation (value_distillation.py) that weights KL by value.

Reference: Modhe, Kamath, Batra and Kalyan, Model-Advantage and Value-Aware Models for
Model-Based Reinforcement Learning, arXiv 2106.14080.
"""
