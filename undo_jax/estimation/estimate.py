"""The memory and time of a program on a chip, from compiling it alone."""

import dataclasses
from typing import Any

import jax

from undo_jax.estimation import compiled_text
from undo_jax.hardware import flops
from undo_jax.hardware.chips import Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A compiled program on one of the chips that share it."""

  name: str
  chip: Target
  num_devices: int
  counted: flops.Counted  # Of all devices.
  argument_bytes: int = 0  # On a device, this and the following.
  output_bytes: int = 0  # Beside the donated arguments.
  temporary_bytes: int = 0
  code_bytes: int = 0
  aliased_bytes: int = 0  # Of the arguments, in whose place results are written.
  totals: compiled_text.Totals = dataclasses.field(default_factory=compiled_text.Totals)
  refusal: str = ""  # Of the compiler, where the program does not fit.

  @property
  def total_bytes(self) -> int:
    """All memory that the program holds while it runs, per device."""
    held = self.argument_bytes + self.output_bytes
    return held + self.temporary_bytes + self.code_bytes

  @property
  def fits(self) -> bool:
    """Whether it fits the memory of a chip."""
    return not self.refusal and self.total_bytes <= self.chip.memory_bytes

  @property
  def seconds(self) -> float:
    """The compiler's estimate, plus what that leaves out at full speed.

    It leaves out collectives that overlap with no computation, and Pallas kernels;
    both take at least this long. For a chip whose compiler counts no cycles it is 0.
    """
    if not self.chip.cycles_per_second:
      return 0.0
    cycles = self.totals.cycles / self.chip.cycles_per_second
    return cycles + self.sent_seconds + self.kernel_seconds

  @property
  def kernel_seconds(self) -> float:
    """Time of the Pallas kernels at the peak."""
    peak = self.num_devices * self.chip.flops_per_second
    return self.counted.kernel_flops / peak

  @property
  def sent_seconds(self) -> float:
    """Time of the collectives beside which nothing is computed, at least."""
    return self.totals.sent_bytes / self.chip.link_bytes_per_second

  @property
  def share_of_peak(self) -> float:
    """FLOPs over what the chips could do in that time."""
    if not self.seconds:
      return 0.0
    peak = self.num_devices * self.chip.flops_per_second
    return self.counted.flops / peak / self.seconds


def estimate(
  name: str, program: Any, args: tuple[Any, ...], chip: Target, num_devices: int
) -> Estimate:
  """Compile a program for the devices its arguments lie on; nothing is run.

  Args:
    name: for the table.
    program: what jax.jit returns.
    args: arrays or their shapes with shardings (jax.ShapeDtypeStruct).
    chip: its datasheet.
    num_devices: how many share the program.
  """
  traced = program.trace(*args)
  counted = flops.count(traced.jaxpr)
  known = Estimate(name=name, chip=chip, num_devices=num_devices, counted=counted)
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return dataclasses.replace(known, refusal=_sentence(str(error)))
  memory = compiled.memory_analysis()
  arguments = memory.argument_size_in_bytes
  outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
  # By the peak the compiler decides what fits; its own size of the temporaries counts
  # some memory twice. The peak of CPUs leaves the temporaries out.
  beside = memory.peak_memory_in_bytes - arguments - outputs
  if _platform(args) == "cpu":
    beside = memory.temp_size_in_bytes
  return dataclasses.replace(
    known,
    argument_bytes=arguments,
    output_bytes=outputs,
    temporary_bytes=beside,
    code_bytes=memory.generated_code_size_in_bytes,
    aliased_bytes=memory.alias_size_in_bytes,
    totals=compiled_text.read(compiled.as_text()),
  )


def _platform(args: tuple[Any, ...]) -> str:
  """Return the kind of the devices that arguments lie on."""
  (device, *_) = jax.tree.leaves(args)[0].sharding.device_set
  return device.platform


def _sentence(text: str) -> str:
  return text.split("\n")[0].strip()
