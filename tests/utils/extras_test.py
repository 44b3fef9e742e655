"""Which extra brings a library that is not installed."""

from undo_jax.utils import extras


def missing(name):
  return ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_library_of_an_extra_is_told_with_the_command_that_brings_it():
  explained = extras.explain(missing("lm_eval.api.model"))
  assert str(explained) == (
    "No module named 'lm_eval.api.model'; what this needs comes by pip install "
    "'undo-jax[lm-eval]'"
  )


def test_what_no_extra_brings_is_not_explained():
  assert extras.explain(missing("numpi")) is None
  assert extras.explain(ImportError("cannot import name 'x'")) is None
