"""undo_jax: make language models forget a capability for good, and measure it."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from undo_jax.interpolation import toward_init
  from undo_jax.models.config import ModelConfig
  from undo_jax.models.decoder import Decoder
  from undo_jax.models.gemma2 import Gemma2
  from undo_jax.models.huggingface import load, save
  from undo_jax.objectives.cross_entropy import cross_entropy
  from undo_jax.objectives.distillation import forward_kl
  from undo_jax.objectives.max_ent import uniform_kl
  from undo_jax.objectives.rmu import steering_error
  from undo_jax.routing.activations import route

__version__ = "0.2.0"
# Name -> the module that has it, which is imported when the name is first read.
_MODULES = {
  "Decoder": "models.decoder",
  "Gemma2": "models.gemma2",
  "ModelConfig": "models.config",
  "cross_entropy": "objectives.cross_entropy",
  "forward_kl": "objectives.distillation",
  "load": "models.huggingface",
  "route": "routing.activations",
  "save": "models.huggingface",
  "steering_error": "objectives.rmu",
  "toward_init": "interpolation",
  "uniform_kl": "objectives.max_ent",
}
__all__ = [
  "Decoder",
  "Gemma2",
  "ModelConfig",
  "cross_entropy",
  "forward_kl",
  "load",
  "route",
  "save",
  "steering_error",
  "toward_init",
  "uniform_kl",
]


def __getattr__(name: str) -> object:
  if name not in _MODULES:
    raise AttributeError(f"module 'undo_jax' has no attribute {name!r}")
  return getattr(importlib.import_module(f"undo_jax.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_MODULES])
