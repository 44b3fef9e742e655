"""Scalable oversight in a gridworld: which of two goals, when few are overseen.

Letters of this study: E environments, S steps of a rollout, C = 100 numbers of an
observation, A = 4 actions.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.3, appendix F.
"""
