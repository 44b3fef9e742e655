"""Poker for two: Kuhn's and Leduc as trees, best responses, equilibria."""
