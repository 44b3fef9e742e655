"""Every config builds, comments each field, and trains two steps in :tiny."""

import ast
import importlib
import json
import pathlib

import jax
import pytest

import configs
from undo_jax import objectives, stages, testing, validation
from undo_jax.models.config import ModelConfig
from undo_jax.models.gemma2 import Gemma2
from undo_jax.training import optimizers, state, step

FILES = sorted(pathlib.Path(configs.__file__).parent.glob("*.py"))
# Those of runs with a language model; the studies have models of their own.
NAMES = [
  path.stem
  for path in FILES
  if path.stem not in ("__init__", "common") and not path.stem.startswith("routing_")
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_field_is_commented(path):
  lines = path.read_text().splitlines()
  for node in ast.walk(ast.parse(path.read_text())):
    call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if not call or node.func.attr != "create":
      continue
    for keyword in node.keywords:
      around = lines[keyword.lineno - 2 : keyword.value.end_lineno]
      assert any("#" in line for line in around), f"{path.name}: {keyword.arg}"


def test_sizes_that_read_files_are_valid(tmp_path):
  corpora = {}
  for name in ("retain", "forget"):
    texts = [json.dumps({"text": f"{name} {number}"}) for number in range(9)]
    (tmp_path / f"{name}.jsonl").write_text("\n".join(texts))
    corpora[name] = (str(tmp_path / f"{name}.jsonl"),)
  one_device = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}
  files = (("arithmetic", "paper"), ("arithmetic", "small"), ("language", "paper"))
  for name, size in files:
    config = importlib.import_module(f"configs.{name}").get_config(size)
    config.data.tokenizer = "bytes"
    if name == "arithmetic":
      config.data.english.paths = corpora["retain"]
    else:
      config.data.retain.paths = corpora["retain"]
      config.data.forget.paths = corpora["forget"]
    config.lock()
    validation.check(config, one_device)


@pytest.mark.parametrize("name", NAMES)
def test_tiny_trains_two_steps(name):
  config = importlib.import_module(f"configs.{name}").get_config("tiny")
  model = ModelConfig(**config.model)
  settings = {name: config.pretrain[name] for name in stages.OPTIMIZER_FIELDS}
  optimizer = optimizers.make_optimizer(optimizers.OptimizerConfig(**settings))
  objective = objectives.make("cross_entropy", Gemma2(model).apply)
  train = jax.jit(step.make_step(objective, optimizer))
  trained = state.create(Gemma2(model).init(jax.random.key(0)), optimizer)
  length = config.data.sequence_length
  batch = testing.batch(
    jax.random.key(1), rows=8, length=length, vocab=model.vocab_size
  )
  losses = []
  for _ in range(3):  # With warm-up, the first of them changes nothing.
    trained, metrics = train(trained, (), batch, jax.random.key(2))
    losses.append(float(metrics["loss"]))
  assert losses[2] < losses[0]
