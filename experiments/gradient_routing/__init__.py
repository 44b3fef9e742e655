"""Studies of gradient routing, small models each: python -m PACKAGE --config --workdir.

A study has its config as a frozen dataclass (config.py), what is computed (study.py),
what comes out of it (results.py) and how that looks (figures.py).

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332.
"""
