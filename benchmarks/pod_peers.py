"""Distillation of Gemma-2-2b for a TPU slice beside Tunix's and MaxText's.

COMMAND, in an environment of its own (see benchmarks/README.md), with no TPU:

  python -m benchmarks.pod_peers --side=ours --topology=v5e:4x4
  python -m benchmarks.pod_peers --side=maxtext --accumulate=7 --matched
  python -m benchmarks.pod_peers --side=tunix --accumulate=7 --matched \
      --remat=DECODER --layers=2,4

Compiles each side's update from shapes alone, for the same batch, teacher and student
resident, and prints what the compiler says of it, by the same estimator. `accumulate`
is in how many parts a side takes the batch, by its own option. Tunix writes every layer
out, which takes an hour to compile: `layers` compiles two small models and goes on
from them in a line to all 26.
"""

import dataclasses
import os
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
import optax

from benchmarks import slices
from undo_jax.estimation import table, topologies
from undo_jax.estimation.estimate import Estimate, estimate

_SIDE = flags.DEFINE_enum("side", "ours", ["ours", "tunix", "maxtext"], "Whose.")
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "As of experiments.compile.")
_ROWS = flags.DEFINE_integer("rows", 112, "Rows of an update, all chips together.")
_LENGTH = flags.DEFINE_integer("length", 1024, "Tokens of a row.")
_ACCUMULATE = flags.DEFINE_integer("accumulate", 1, "Parts of the batch, in turn.")
_REMAT = flags.DEFINE_string(
  "remat", None, "Ours none, dots, full; Tunix NONE, BLOCK, DECODER; MaxText's policy."
)
_DTYPE = flags.DEFINE_string("dtype", "bfloat16", "Tunix: of weights and products.")
_MATCHED = flags.DEFINE_bool(
  "matched", False, "The loss is the KL alone, the frozen teacher held in bfloat16."
)
_LAYERS = flags.DEFINE_list("layers", [], "Tunix: two numbers; none: all 26.")
_SET = flags.DEFINE_multi_string("set", [], "MaxText: more options, as name=value.")
LAYERS = 26


@dataclasses.dataclass(frozen=True)
class Part:
  """A program of an update."""

  estimate: Estimate
  times: int = 1  # It is run in an update.
  beside: int = 0  # Bytes a chip holds meanwhile that are not among its arguments.


# ---- Ours


def ours(devices, chip) -> list[Part]:
  """Return the step of UNDO's distillation in configs/pods.py."""
  changes = {"remat": _REMAT.value} if _REMAT.value else {}
  lowered = slices.distillation(
    devices,
    rows=_ROWS.value,
    length=_LENGTH.value,
    num_microbatches=_ACCUMULATE.value,
    **changes,
  )
  estimated = estimate("ours", lowered.program, lowered.args, chip, len(devices))
  return [Part(estimated)]


# ---- Tunix: a program for the teacher, and one for the student's update.


def tunix(devices, chip) -> list[Part]:
  """Tunix's DistillationTrainer with its LogitStrategy on its Gemma."""
  if not _LAYERS.value:
    return _tunix(devices, chip, LAYERS)
  small, large = sorted(int(layers) for layers in _LAYERS.value)
  pairs = zip(_tunix(devices, chip, small), _tunix(devices, chip, large), strict=True)
  return [
    dataclasses.replace(
      one,
      estimate=continued(
        one.estimate, two.estimate, (LAYERS - small) / (large - small)
      ),
      beside=int(line(one.beside, two.beside, (LAYERS - small) / (large - small))),
    )
    for one, two in pairs
  ]


def _tunix(devices, chip, num_layers) -> list[Part]:
  from flax import nnx
  from tunix.distillation import distillation_trainer
  from tunix.distillation.strategies import logit
  from tunix.models.gemma import model as gemma
  from tunix.sft import utils

  # It asks the devices that run this, which are no TPUs, whether to place activations.
  gemma.shard = lambda x, axes: jax.lax.with_sharding_constraint(
    x, jax.NamedSharding(mesh, jax.P(*axes))
  )
  mesh = jax.make_mesh(
    (len(devices), 1),
    ("fsdp", "tp"),
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=devices,
  )
  remat = gemma.RematConfig[_REMAT.value or "NONE"]
  config = gemma.ModelConfig.gemma2_2b()
  config.remat_config, config.num_layers = remat, num_layers

  def forward(model, input_tokens, input_mask):
    positions = utils.build_positions_from_mask(input_mask)
    mask = utils.make_causal_attn_mask(input_mask)
    return model(input_tokens, positions, None, mask)[0]

  def labels(input_tokens, input_mask):
    del input_mask
    return jax.nn.one_hot(jnp.roll(input_tokens, -1, 1), config.num_embed)

  loss = {"temperature": 1.0, "alpha": 1.0} if _MATCHED.value else {}
  strategy = logit.LogitStrategy(forward, forward, labels, **loss)
  steps = _ACCUMULATE.value
  training = distillation_trainer.TrainingConfig(
    eval_every_n_steps=1000,
    max_steps=1000,
    gradient_accumulation_steps=steps if steps > 1 else None,
  )
  trainers = []

  def make():
    student, teacher = (_cast(gemma.Gemma(config, rngs=nnx.Rngs(0))) for _ in range(2))
    trainers.append(
      distillation_trainer.DistillationTrainer(
        student, teacher, strategy, _adamw(), training
      )
    )
    return student, teacher, trainers[0].optimizer

  student, teacher, optimizer = nnx.eval_shape(make)
  for module in (student, teacher, optimizer):
    _place(module, mesh)
  where = jax.NamedSharding(mesh, jax.P("fsdp"))
  shape = _ROWS.value // steps, _LENGTH.value
  tokens, mask = (
    jax.ShapeDtypeStruct(shape, dtype, sharding=where)
    for dtype in (jnp.int32, jnp.bool_)
  )
  logits = jax.ShapeDtypeStruct(
    (*shape, config.num_embed), jnp.dtype(_DTYPE.value), sharding=where
  )
  batch = distillation_trainer.TrainingInput(
    input_tokens=tokens, input_mask=mask, teacher_output=logits
  )
  # As PeftTrainer compiles it: the student itself is not donated.
  step = nnx.jit(trainers[0].create_train_step_fn(), donate_argnames=("optimizer",))
  with mesh:
    taught = estimate(
      "Tunix, teacher",
      _Nnx(strategy._teacher_forward_fn, out=where),
      (teacher, tokens, mask),
      chip,
      len(devices),
    )
    trained = estimate(
      "Tunix, student", _Nnx(step), (student, optimizer, batch), chip, len(devices)
    )
  state = _held(student) + _held(optimizer)
  return [Part(taught, steps, state), Part(trained, steps, _held(teacher))]


def _cast(model):
  from flax import nnx

  cast = jax.tree.map(lambda x: x.astype(_DTYPE.value), nnx.state(model, nnx.Param))
  nnx.update(model, cast)
  return model


def _adamw() -> optax.GradientTransformation:
  return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-5))


# ---- MaxText: its distillation trainer, a program for both models.


def maxtext(devices, chip) -> list[Part]:
  """MaxText's MaxTextDistillationTrainer at its post_train/distillation.yml."""
  from flax import nnx
  from flax.core.spmd import logical_axis_rules
  from maxtext.trainers.post_train.distillation import distillation_utils, train_distill
  from maxtext.utils import maxtext_utils, model_creation_utils, sharding
  from tunix.sft import peft_trainer

  # As its main does.
  jax.config.update("jax_default_prng_impl", "unsafe_rbg")
  config = _maxtext_config(len(devices))
  held = ["weight_dtype=bfloat16"] if _MATCHED.value else []
  frozen = _maxtext_config(len(devices), *held)
  mesh = jax.sharding.Mesh(
    maxtext_utils.create_device_mesh(config, devices), config.mesh_axes
  )
  strategy = distillation_utils.CombinedDistillationStrategy(
    student_forward_fn=train_distill.create_forward_fn(config),
    teacher_forward_fn=train_distill.create_forward_fn(frozen),
    temperature=config.distill_temperature,
    alpha=config.distill_alpha,
    beta_feature=config.distill_beta,
    vocab_size=config.vocab_size,
    max_steps=config.steps,
  )
  training = peft_trainer.TrainingConfig(
    eval_every_n_steps=1000,
    max_steps=config.steps,
    gradient_accumulation_steps=config.gradient_accumulation_steps,
  )
  trainers = []
  with jax.set_mesh(mesh), logical_axis_rules(config.logical_axis_rules):
    make_student, student = model_creation_utils.create_nnx_abstract_model(config, mesh)
    make_teacher, teacher = model_creation_utils.create_nnx_abstract_model(frozen, mesh)

    def make():
      models = make_teacher(), make_student()
      models[0].eval()
      bundle = train_distill.ModelBundle(*models)
      trainers.append(
        train_distill.MaxTextDistillationTrainer(
          model=bundle,
          strategy=strategy,
          optimizer=train_distill.get_distillation_optimizer(config, config.steps),
          training_config=training,
          student_config=config,
          teacher_config=frozen,
        )
      )
      return bundle, trainers[0].optimizer

    bundle, optimizer = nnx.eval_shape(make)
    for module in (bundle, optimizer):
      _place(module, mesh, sharding.nnx_construct_named_sharding)
    trainer = trainers[0].with_gen_model_input_fn(_maxtext_inputs)
    trainer._has_aux = True
    batch = _maxtext_batch(config, mesh, distillation_utils, sharding)
    step = nnx.jit(trainer.create_train_step_fn(), donate_argnames=("optimizer",))
    estimated = estimate(
      "MaxText", _Nnx(step), (bundle, optimizer, batch), chip, len(devices)
    )
  # nnx.jit gives the teacher back as it came, which costs no memory when it is run
  # but is a copy in what is compiled ahead of time.
  same = 0 if estimated.refusal else _held(bundle.teacher_model)
  estimated = dataclasses.replace(estimated, output_bytes=estimated.output_bytes - same)
  return [Part(estimated, _ACCUMULATE.value)]


def _maxtext_config(num_devices, *changes):
  import maxtext
  from maxtext.configs import pyconfig

  directory = os.path.dirname(maxtext.__file__)
  options = {
    "model_name": "gemma2-2b",
    "run_name": "pod_peers",
    "max_target_length": _LENGTH.value,
    "per_device_batch_size": _ROWS.value / num_devices / _ACCUMULATE.value,
    "gradient_accumulation_steps": _ACCUMULATE.value,
    "compile_topology": f"{_TOPOLOGY.value.split(':')[0]}-{num_devices}",
    "compile_topology_num_slices": 1,
    "skip_jax_distributed_system": True,
    "enable_checkpointing": False,
  }
  if _MATCHED.value:
    options |= {"distill_alpha": 1.0, "distill_temperature": 1.0}
  if _REMAT.value:
    options["remat_policy"] = _REMAT.value
  path = f"{directory}/configs/post_train/distillation.yml"
  given = [f"{name}={value}" for name, value in options.items()]
  return pyconfig.initialize(["", path, *given, *_SET.value, *changes])


def _maxtext_inputs(batch):
  return {
    "input_tokens": batch.input_tokens,
    "positions": batch.positions,
    "attention_mask": batch.input_mask,
    "decoder_segment_ids": batch.decoder_segment_ids,
    "targets": batch.targets,
    "targets_segmentation": batch.targets_segmentation,
    "cache": None,
  }


def _maxtext_batch(config, mesh, distillation_utils, sharding):
  where = sharding.get_input_data_sharding(config, mesh)
  shape = _ROWS.value // _ACCUMULATE.value, _LENGTH.value
  tokens = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=where)
  mask = jax.ShapeDtypeStruct(shape, jnp.bool_, sharding=where)
  return distillation_utils.MaxTextTrainingInput(
    input_tokens=tokens,
    input_mask=mask,
    positions=tokens,
    decoder_segment_ids=tokens,
    targets=tokens,
    targets_position=tokens,
    targets_segmentation=tokens,
  )


# ---- What both peers need: modules whose arrays are shapes.


class _Nnx:
  """A function of nnx.jit as estimate() takes programs."""

  def __init__(self, jitted: Any, out: Any = None):
    self._jitted, self._out = jitted, out

  def trace(self, *args):
    traced = self._jitted.trace(*args)
    return getattr(traced, "traced", traced)


def _place(module, mesh, shardings=None) -> None:
  """Give the module's shapes the places that its variables' metadata name."""
  from flax import nnx

  state = nnx.state(module)
  if shardings is None:
    places = nnx.get_named_sharding(state, mesh)
  else:
    places = shardings(state, mesh)

  def placed(x, where):
    where = getattr(where, "sharding", where)
    # A moment or a scalar without a name of its own is whole on every chip.
    if not isinstance(where, jax.NamedSharding) or len(where.spec) > len(x.shape):
      where = jax.NamedSharding(mesh, jax.P())
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

  nnx.update(module, jax.tree.map(placed, state, places))


def _held(module) -> int:
  """Return the bytes of a chip in which a module's arrays lie."""
  from flax import nnx

  return sum(
    x.dtype.itemsize * _size(x.sharding.shard_shape(x.shape))
    for x in jax.tree.leaves(nnx.state(module))
    if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
  )


def _size(shape) -> int:
  size = 1
  for length in shape:
    size *= length
  return size


# ---- From two small models to the whole.


def line(small: float, large: float, steps: float) -> float:
  """Return the value after `steps` times the way from `small` to `large`."""
  return small + steps * (large - small)


def continued(small: Estimate, large: Estimate, steps: float) -> Estimate:
  """Return the estimate that goes on in a line from two others.

  Raises:
    ValueError: if one of them was refused: then the whole is too.
  """
  if small.refusal or large.refusal:
    return dataclasses.replace(large, refusal=small.refusal or large.refusal)

  def sums(one, two, names):
    new = {name: line(getattr(one, name), getattr(two, name), steps) for name in names}
    kinds = {name: int(value) for name, value in new.items() if name not in _REAL}
    return dataclasses.replace(one, **(new | kinds))

  def kinds(one, two):
    names = one.keys() | two.keys()
    return type(one)({name: int(line(one[name], two[name], steps)) for name in names})

  totals = sums(small.totals, large.totals, sorted(_REAL))
  totals = dataclasses.replace(
    totals,
    counts=kinds(small.totals.counts, large.totals.counts),
    bytes=kinds(small.totals.bytes, large.totals.bytes),
  )
  memory = [name for name in small.__dataclass_fields__ if name.endswith("_bytes")]
  whole = sums(small, large, memory)
  counted = sums(small.counted, large.counted, ["flops", "kernel_flops"])
  return dataclasses.replace(whole, counted=counted, totals=totals)


_REAL = {"cycles", "sent_bytes", "hidden_bytes"}


def main(argv):
  del argv
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  jax.config.update("jax_platforms", "cpu")
  devices, chip = topologies.get(_TOPOLOGY.value)
  side = {"ours": ours, "tunix": tunix, "maxtext": maxtext}[_SIDE.value]
  print(slices.versions("google-tunix", "maxtext"), flush=True)
  print(table.heading(chip, {"chips": len(devices)}), flush=True)
  parts = side(devices, chip)
  for part in parts:
    print(table.line(part.estimate))
  print(table.collectives(part.estimate for part in parts))
  print(summary(parts))


def summary(parts: list[Part]) -> str:
  """Return what an update takes with all its programs."""
  refused = [part.estimate.refusal for part in parts if part.estimate.refusal]
  if refused:
    return f"an update: does not fit: {refused[0]}"
  most = max(part.estimate.total_bytes + part.beside for part in parts)
  seconds = sum(part.times * part.estimate.seconds for part in parts)
  flops = sum(part.times * part.estimate.counted.flops for part in parts)
  chip, chips = parts[0].estimate.chip, parts[0].estimate.num_devices
  fits = "fits" if most <= chip.memory_bytes else "does NOT fit"
  share = flops / seconds / chip.flops_per_second / chips
  return (
    f"an update: {most / 2**30:.2f} GiB a chip at most ({fits}), {flops / 1e12:.4g} "
    f"TFLOP, {seconds:.4g} s, {100 * share:.0f} % of the peak"
  )


if __name__ == "__main__":
  app.run(main)
