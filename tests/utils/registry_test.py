"""Records by name, ours and those of a module of someone else."""

import dataclasses
import sys

import pytest

from undo_jax.utils.errors import ConfigError
from undo_jax.utils.registry import Registry


@dataclasses.dataclass(frozen=True)
class Recipe:
  text: str


REGISTRY = Registry("dish", Recipe, {"soup": Recipe("boil"), "bread": Recipe("bake")})


@pytest.fixture
def their(tmp_path, monkeypatch):
  """Give a function that writes a module which Python finds."""

  def write(name, text):
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.delitem(sys.modules, name, raising=False)

  monkeypatch.syspath_prepend(tmp_path)
  yield write
  for path in tmp_path.glob("*.py"):
    sys.modules.pop(path.stem, None)


def test_names_keep_their_order_and_give_their_records():
  assert list(REGISTRY) == ["soup", "bread"]
  assert "soup" in REGISTRY and "fish" not in REGISTRY
  assert REGISTRY.get("bread") == Recipe("bake")


def test_a_record_of_another_module_is_imported(their):
  their("their_fish", "class Fish(str): pass\nFISH = Fish('carp')\n")
  fish = Registry("dish", str, {"cod": "cod"})
  assert fish.get("their_fish:FISH") == "carp"
  assert fish.get("their_fish:FISH") is fish.get("their_fish:FISH")


@pytest.mark.parametrize(
  "name, why",
  [
    ("fish", "got 'fish'"),
    ("", "got ''"),
    (None, "got None"),
    (":FISH", "got ':FISH'"),
    ("their_stew:", "got 'their_stew:'"),
    ("no_such_module:FISH", "No module named 'no_such_module'"),
    ("their_stew:FISH", "module 'their_stew' has no attribute 'FISH'"),
    ("their_stew:STEW", "a Recipe, and that is of type str"),
    ("their_broken:STEW", "No module named 'no_such_module'"),
    (".relative:STEW", "got '.relative:STEW'"),
  ],
)
def test_what_is_no_record_is_an_error_of_one_line(their, name, why):
  their("their_stew", "STEW = 'cook'\n")
  their("their_broken", "import no_such_module\n")
  with pytest.raises(ConfigError) as error:
    REGISTRY.get(name)
  line = str(error.value)
  start = "expected as dish one of soup, bread or MODULE:NAME"
  assert line.startswith(start) and why in line and "\n" not in line


def test_an_error_of_the_module_itself_passes(their):
  their("their_bug", "1 / 0\n")
  with pytest.raises(ZeroDivisionError):
    REGISTRY.get("their_bug:STEW")


def test_what_a_file_names_is_not_imported(their, tmp_path):
  text = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nFISH = 'carp'\n"
  their("their_fish", text)
  fish = Registry("dish", str, {"cod": "cod"})
  assert fish.recorded("cod") == "cod"
  assert fish.recorded("their_fish:FISH") is None
  assert fish.recorded("unknown") is None and not (tmp_path / "ran").exists()
  fish.get("their_fish:FISH")  # As a config names it.
  assert fish.recorded("their_fish:FISH") == "carp" and (tmp_path / "ran").exists()
