"""What entries of both tables have: noise, and entries that follow others."""

from ml_collections import config_dict

from undo_jax.config.blocks import Config, optional, table


def noise() -> Config:
  """Return the noise of a model: none, until alpha, std or a rule is above 0."""
  return config_dict.create(
    alpha=0.0,  # How far toward random weights, in [0, 1].
    beta=0.1,  # Scale of these, in [0, 1]; 0: pure shrinking.
    # Other alphas: (path regex, layers, alpha), where () are all layers, as in
    # (("embedding", (), 0.0), ("layers/mlp/.*", (0, 1), 0.9)); the first decides.
    rules=(),
    std=0.0,  # Of normal noise that is added to every weight after that.
  )


def like(entry: Config, **changes: object) -> Config:
  """Return an entry that follows another one in all fields except those given here.

  A field that is overridden in the other entry, also on the command line, changes here
  too, unless it was given here. Whether the entry is run and attacked, its checkpoint
  and how it is shown are its own.

  Args:
    entry: of a table.
    changes: values by field; for a block, a dict with some of its fields.
  """
  follower = _follow(entry)
  # These are each entry's own.
  own = {"run": True, "is_attacked": True, "checkpoint": None, "label": None}
  for name in follower.keys() & own.keys():
    follower[name] = config_dict.placeholder(type(own[name]) if own[name] else str)
    follower[name] = own[name]
  if "look" in follower:
    follower.look = optional(str, label=None, color=None, marker=None)
  with follower.unlocked():
    follower.update(changes)
  return follower


def _follow(block: Config) -> Config:
  follower = table()
  for name, value in block.items():
    is_block = isinstance(value, config_dict.ConfigDict)
    follower[name] = _follow(value) if is_block else block.get_oneway_ref(name)
  return follower


def look(entry: Config, label: str, color: str, marker: str) -> None:
  """Set how an entry is shown in the report; a sweep has shades of its color."""
  entry.look.update({"label": label, "color": color, "marker": marker})
