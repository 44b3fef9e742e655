"""Reserved MLP units and attention heads of the decoder, for gradient routing.

MLP units grow or are set aside one by one, attention heads in whole groups: a
key/value head with its H/G query heads. Query heads that share their key/value head
with others could be zeroed, but not made to stay so: their output would not be zero,
and W_O would learn from it.

The layers are stacked on one axis and have one size. An expansion of some layers
therefore gives all layers the new entries, and those of the others are zero, which no
training changes (see routing.era).
"""

from collections.abc import Iterable
import dataclasses

import jax

from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.routing import era, masks
from undo_jax.types import ConfigError, Params
