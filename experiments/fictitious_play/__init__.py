"""Anticipatory fictitious play against plain, at equal numbers of best responses.

undo_jax.frontier.games has the plays, which run over many games and many ways to break
ties at once. undo_jax.frontier.best_responses plays poker, and so do policies that are
trained; releases and attacks are those of finished runs.

Reference: Cloud, Wang and Kerr, Anticipatory Fictitious Play, IJCAI 2023, arXiv
2212.09941.
"""
