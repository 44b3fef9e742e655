"""Anticipatory fictitious play against plain, at equal numbers of best responses.

The plays are those of undo_jax.frontier.games, over many games and ways to break ties
at once; poker is played by undo_jax.frontier.best_responses, and by policies that are
trained; releases and attacks are those of finished runs.

Reference: Cloud, Wang and Kerr, Anticipatory Fictitious Play, IJCAI 2023, arXiv
2212.09941.
"""
