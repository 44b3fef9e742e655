"""Studies of gradient routing on small models: python -m PACKAGE --config --workdir.

A study has four modules: config.py is the config as a frozen dataclass, study.py says
what is computed, results.py makes results of it, and figures.py draws them.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332.
"""
