"""What JSON reads as; in a file of its own, for processes without JAX."""

from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
