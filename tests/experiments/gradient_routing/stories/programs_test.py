"""The programs of the methods, traced: what goes in and what comes out."""

import functools

import jax

from configs.gradient_routing import stories as config_file
from experiments.gradient_routing.stories import batches as batches_lib
from experiments.gradient_routing.stories import study
from experiments.gradient_routing.stories.config import Config
from experiments.gradient_routing.stories.programs import Programs
from experiments.shared import typed
from undo_jax.models import expansion
from undo_jax.models.decoder import Decoder
from undo_jax.training import state as state_lib


def test_the_other_methods_give_models_of_the_same_sizes():
  """Traced, not run; `methods_test` has their values."""
  config = typed.read(Config, config_file.get_config("tiny"))
  programs = Programs(config)
  data = batches_lib.load(config.data, config.train, 0)
  batches, frozen = study.labelled(config, data, 0.5)
  key = jax.random.key(0)
  fresh = jax.eval_shape(Decoder(programs.model).init, key)

  def trained(method, fresh):
    routing = programs.methods[method].routing
    params, new = study.expand(programs.model, routing, fresh, key)
    start = state_lib.create(params, programs.methods[method].optimizer)
    end, _ = programs.methods[method].run(start, frozen, batches, key)
    return expansion.contract(routing.model, end.params, new)[1]

  first = {name: x[:3] for name, x in batches.items()}
  shapes = [jax.eval_shape(programs.unlearning["rmu"], fresh, first, key)]
  for method in ("era_coherent", "sgtm"):
    shapes.append(jax.eval_shape(functools.partial(trained, method), fresh))
  assert shapes == [fresh] * 3
