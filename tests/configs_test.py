"""Every config builds, comments each field, and trains two steps in :tiny."""

import ast
import json
import pathlib

import jax
import numpy as np
import pytest

from tests import tofu_files
import undo_jax
from undo_jax import config as builders
from undo_jax import objectives
from undo_jax.models.gemma2 import Gemma2
from undo_jax.plan import checks
from undo_jax.plan.config import parse
from undo_jax.training import optimizers, state, step
from undo_jax.utils.types import ConfigError

CONFIGS = pathlib.Path(undo_jax.__file__).parents[1] / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*.py") if path.stem != "__init__")
# Those of runs with a language model; the studies have models of their own, and a real
# one is given.
NAMES = [p.stem for p in FILES if p.parent == CONFIGS and p.stem != "smollm2"]
ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_configs_import_the_builders_alone(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      names = [alias.name for alias in node.names]
      is_builders = (node.module, names) == ("undo_jax", ["config"])
      assert is_builders or node.module in ("typing", "collections.abc"), names
    assert not isinstance(node, ast.Import), ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_field_is_commented(path):
  lines = path.read_text().splitlines()
  for node in ast.walk(ast.parse(path.read_text())):
    call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if not call or node.func.attr != "block":
      continue
    for keyword in (k for k in node.keywords if k.arg):
      around = lines[keyword.lineno - 2 : keyword.value.end_lineno]
      assert any("#" in line for line in around), f"{path.name}: {keyword.arg}"


def test_sizes_that_read_files_are_valid(tmp_path):
  corpora = {}
  for name in ("retain", "forget"):
    texts = [json.dumps({"text": f"{name} {number}"}) for number in range(9)]
    (tmp_path / f"{name}.jsonl").write_text("\n".join(texts))
    corpora[name] = (str(tmp_path / f"{name}.jsonl"),)
  files = (("arithmetic", "paper"), ("arithmetic", "small"), ("language", "paper"))
  for name, size in files:
    config = builders.shipped(f"{name}:{size}")
    config.data.tokenizer = "bytes"
    if name == "arithmetic":
      config.data.english.paths = corpora["retain"]
    else:
      config.data.retain.paths = corpora["retain"]
      config.data.forget.paths = corpora["forget"]
    config.lock()
    checks.check(parse(config), ONE_DEVICE)


# That of arithmetic is routing_arithmetic's but for the number of key heads.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "arithmetic"])
def test_tiny_trains_two_steps(name):
  config = parse(builders.shipped(f"{name}:tiny"))
  model, base = config.model, config.models["base"]
  optimizer = optimizers.make_optimizer(base.optimizer)
  objective = objectives.make("cross_entropy", Gemma2(model).apply)
  update = step.make_step(objective, optimizer)
  shape = (2, config.data["sequence_length"] + 1)
  tokens = np.random.default_rng(0).integers(model.vocab_size, size=shape)
  batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
  batch["mask"] = np.ones(batch["inputs"].shape, np.float32)

  @jax.jit
  def train(key, batch):  # With warm-up, the first update changes nothing.
    trained = state.create(Gemma2(model).init(key), optimizer)
    _, metrics = jax.lax.scan(
      lambda trained, _: update(trained, (), batch, key), trained, length=3
    )
    return metrics["loss"]

  losses = train(jax.random.key(0), batch)
  assert losses[2] < losses[0]


def test_pods_says_how_its_mesh_divides_its_batches():
  small = {f"gemma2_{size}b": 1 for size in ("0.1", "0.3", "0.6", "0.9")}
  chips = small | {"gemma2_2b": 1, "gemma2_2b_pod": 16, "tiny": 2}
  for size, data in chips.items():
    config = parse(builders.shipped(f"pods:{size}"))
    mesh = {"replica": 1, "data": data, "fsdp": config.mesh["fsdp"], "tensor": 1}
    checks.check(config, mesh)
    with pytest.raises(ConfigError, match="a multiple of"):
      checks.check(config, mesh | {"data": 3})


@pytest.mark.parametrize("size", ["tiny", "full", "tofu_tiny", "tofu"])
def test_runs_of_a_real_model_are_valid(tmp_path, size):
  config = builders.shipped(f"smollm2:{size}")
  config.data.tokenizer = "bytes"
  if size.startswith("tofu"):
    tofu_files.write(tmp_path, forget=2, retain=20)
    config.data.directory = str(tmp_path)
    config.data.files.update({name: f"{name}.json" for name in config.data.files})
  else:
    (tmp_path / "english.txt").write_text("It was a bright cold day.\n" * 9)
    config.data.retain.paths = (str(tmp_path),)
  config.lock()
  parsed = parse(config)
  checks.check(parsed, ONE_DEVICE)
  assert parsed.models["given"].checkpoint == "checkpoints/smollm2"
  trained = {name: entry.start for name, entry in parsed.models.items()}
  assert "random" not in {trained[name] for name in trained if name != "given"}
