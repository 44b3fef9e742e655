"""Value-aware models: what an error of a model changes in the return.

The identity and its bounds on small tables, and a toy whose distractor only a
value-aware loss leaves out.

Reference: Modhe, Kamath, Batra and Kalyan, Model-Advantage and Value-Aware Models for
Model-Based Reinforcement Learning, arXiv 2106.14080.
"""
