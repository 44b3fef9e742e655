"""undo_jax: make language models forget a capability for good, and measure it."""

__version__ = "0.1.0"
