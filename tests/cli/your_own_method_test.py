"""docs/your_own_method.md: its blocks are the files and the command that run here."""

import json
import pathlib
import re
import shlex

import pytest

from tests import children, minimal

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your_own_method.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
KEPT = ("base", "ascent")  # Of the config's models; the others take time alone.
SMALL = minimal.OVERRIDES | {
  "models.ascent.optimizer.num_steps": 2,
  "models.ascent.batch_size": 16,
  "attacks.relearn.run": False,
  "attacks.embedding.run": True,
  "attacks.embedding.seeds": (0,),
  "writers": ("jsonl",),
  "report.figures": ("attack_defense",),
  "seeds": (0,),
  "references.filtered": None,
  "references.unlearned": "ascent",
  "report.filtering": (),
}


def small():
  """Return the flags that make the page's config a run of seconds."""
  from undo_jax import config as builders

  names = builders.shipped("frontier:quick").models
  runs = {f"models.{name}.run": name in KEPT for name in names}
  return [f"--config.{name}={value}" for name, value in (SMALL | runs).items()]


def test_the_page_is_one_screen_and_names_its_files():
  assert [kind for kind, _ in BLOCKS] == ["python", "python", "sh"]
  assert "`my_methods.py`" in PAGE and "`my_frontier.py`" in PAGE
  assert len(PAGE.splitlines()) < 100
  for linking in ("README.md", "CONTRIBUTING.md"):
    assert "docs/your_own_method.md" in (ROOT / linking).read_text()


@pytest.mark.processes
def test_what_the_page_says_goes_through_the_frontier(tmp_path):
  (_, methods), (_, config), (_, command) = BLOCKS
  (tmp_path / "my_methods.py").write_text(methods)
  (tmp_path / "my_frontier.py").write_text(config)
  path, program, *arguments = shlex.split(command)
  assert (path, program) == ("PYTHONPATH=.", "undo-jax")
  name, value = path.split("=")
  status, _, said = children.run(*arguments, *small(), cwd=tmp_path, **{name: value})
  assert status == 0, said
  workdir = tmp_path / "runs" / "mine"
  results = json.loads((workdir / "results.json").read_text())
  ascent = results["models"]["ascent"]
  assert ascent["label"] == "ascent"
  assert ascent["runs"][0]["attacks"].keys() == {"embedding"}
  attack = results["attacks"]["embedding"]
  assert (attack["label"], attack["trains"]) == ("embedding alone", "the embedding")
  # Two updates of 16 rows of each domain.
  cost = ascent["runs"][0]["compute"]
  length = results["protocol"]["data"]["sequence_length"]
  assert (cost["updates"], cost["tokens"]) == (2, 2 * 16 * 2 * length)
  page = (workdir / "report.html").read_text()
  assert "ascent</th>" in page and "the embedding are trained" in page
  (apart,) = results["apart"]
  assert apart["shared"] == 0 and apart["items"]["attacked"] > 0
