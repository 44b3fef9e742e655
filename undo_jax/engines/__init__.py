"""Engines: where the stages of a run run, if not in this process.

An engine is one file that ends in its record, and a line in registry.py; someone else's
is named as MODULE:NAME. What a worker is given are strings: the arguments of a command
of ours.
"""
