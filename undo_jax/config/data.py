"""What is read: documents, mixtures of splits, and rows that are selected."""

import sysconfig

from ml_collections import config_dict

from undo_jax.config.blocks import Config, block, table


def fact_splits() -> tuple[str, ...]:
  """Return the splits of the task `facts`."""
  from undo_jax.data import facts  # Here, since it imports the datasets' library.

  return facts.SPLITS


def standard_library(letters: str) -> tuple[str, ...]:
  """Return globs of this Python's own modules, source code that every machine has.

  Args:
    letters: first letters of their names, as in a glob: "a-m".
  """
  return (f"{sysconfig.get_path('stdlib')}/[{letters}]*.py",)


def documents(
  *,
  validation_fraction: float,
  test_fraction: float = 0.0,
  paths: tuple[str, ...] = (),
) -> Config:
  """Return a corpus of local files; see undo_jax/data/documents/source.py."""
  return config_dict.create(
    paths=paths,  # Files, folders, globs: .txt, .jsonl, .parquet, .html, .py.
    text_field="text",  # The field of a JSON line or Parquet column.
    question_field=config_dict.placeholder(str),  # Pairs instead of texts ...
    answer_field=config_dict.placeholder(str),  # ... whose answers are scored.
    lines=True,  # A .txt holds a document a line; else it is one.
    skip_empty=False,  # Leave out records without text instead of refusing them.
    # Documents held out, by their text: for stop rules, and for what is reported.
    validation_fraction=validation_fraction,
    test_fraction=test_fraction,
    validation_tokens=config_dict.placeholder(int),  # At most so many of either.
    max_documents=config_dict.placeholder(int),  # Of training.
    max_tokens=config_dict.placeholder(int),  # Of training.
    max_document_tokens=config_dict.placeholder(int),  # Longer ones are left out.
  )


def mixtures(**weights: dict[str, float]) -> Config:
  """Return the mixtures: for each use of the data the weights of its splits.

  Every mixture names every split, so that each weight can be overridden; 0 leaves a
  split out.

  Args:
    weights: by the name of the mixture, the splits with a weight; weights need not sum
      to 1.
  """
  splits = list(dict.fromkeys(split for part in weights.values() for split in part))
  return block(
    **{
      name: block(**{split: float(part.get(split, 0.0)) for split in splits})
      for name, part in weights.items()
    }
  )


def selection(
  *,
  share: float | None = None,
  rows: int | None = None,
  mixture: str = "pretrain",
  keep: float | None = None,
  seed: int | None = None,
) -> Config:
  """Return an entry of config.selections: rows that a classifier takes as clean.

  Some rows of a mixture's splits are labelled, forget or retain. A classifier learns
  from them and takes rows of these splits, which mixtures may name; see `selected`.

  Args:
    share: share of each split's rows that are labelled, in (0, 1]; at least one row.
    rows: number of labelled rows of all splits together, instead of a share.
    mixture: of config.mixtures, whose splits are meant, such as that of pretraining.
    keep: the share of all rows that is taken, the likeliest retain data; None: all
      rows that are likelier retain than forget data.
    seed: decides which rows are labelled; None: the run's stream data.
  """
  made = block(mixture=mixture)  # The rows of its splits are classified.
  made.share = config_dict.placeholder(float)  # Of each split's rows: labelled ...
  made.rows = config_dict.placeholder(int)  # ... or so many of all; one is None.
  made.keep = config_dict.placeholder(float)  # Of all rows; None: the likelier ones.
  made.seed = config_dict.placeholder(int)  # None: the run's.
  made.share, made.rows, made.keep, made.seed = share, rows, keep, seed
  return made


def selected(selection: str, mixture: Config) -> Config:
  """Return a mixture without the rows that a selection does not take.

  A split of weight w, of whose n rows m are taken, gets the weight w * m / n. Rows
  that the classifier takes by mistake are in the mixture.

  Args:
    selection: of config.selections.
    mixture: another one, of splits.
  """
  return _of_selection(mixture, f":{selection}")


def labelled(selection: str, mixture: Config) -> Config:
  """Return a mixture of only the rows that are labelled for a selection.

  Args:
    selection: of config.selections.
    mixture: another one, of splits, whose weights are taken over.
  """
  return _of_selection(mixture, f":{selection}:labelled")


def _of_selection(mixture: Config, ending: str) -> Config:
  made = table()
  for split in mixture:
    made[f"{split}{ending}"] = mixture.get_oneway_ref(split)
  return made
