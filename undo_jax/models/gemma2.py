"""Gemma-2 by its name: the decoder with the default fields of ModelConfig."""

from undo_jax.models.decoder import NODES, Cache, Output
from undo_jax.models.decoder import Decoder as Gemma2

__all__ = ["NODES", "Cache", "Gemma2", "Output"]
