"""PyTorch's side of `accelerator`: the distillation that train SIZE has, compiled."""

import gc
import time

from benchmarks import common, pytorch
from benchmarks.accelerator_common import (
  SIZES,
  Report,
  Row,
  Setting,
  Size,
  short,
  speeds,
  timed,
)

# That compute the softcap, the fastest first; `sdpa` leaves it out.
ATTENTIONS = {
  "gpu": ("flash_attention_2", "flex_attention", "eager"),
  "cpu": ("eager",),
}


def torch(size: str, setting: Setting, report: Report) -> None:
  """Time distillation of a size by the best attention, with the most rows that fit."""
  shape, row = SIZES[size], _row(size)
  missing = [name for name in ("torch", "transformers") if not common.version(name)]
  if missing:
    report(row | {"note": f"not installed: {', '.join(missing)}"})
    return
  if setting.platform not in ATTENTIONS or not _is_there(setting.platform):
    report(row | {"note": "this PyTorch cannot use the device"})
    return
  report(row | _best(shape, setting))


def _row(size: str) -> Row:
  return {"what": "distillation", "size": size, "side": "torch.compile"}


def _is_there(platform: str) -> bool:
  import torch

  return platform == "cpu" or torch.cuda.is_available()


def _best(shape: Size, setting: Setting) -> Row:
  """Return the row of the first attention and number of rows that run."""
  import torch

  refused = []
  for attention in ATTENTIONS[setting.platform]:
    most = max(rows for _, rows in shape.attempts)
    while most:
      try:
        row = _measured(shape, setting, attention, most)
        return row | {"note": "; ".join([f"attention: {attention}", *refused])}
      except torch.OutOfMemoryError:
        refused.append(f"{most} rows did not fit")
      except Exception as error:  # noqa: BLE001
        refused.append(f"{attention}: {short(error)[:60]}")
        break
      most //= 2
  return {"note": "; ".join(refused)}


def _measured(shape: Size, setting: Setting, attention: str, rows: int) -> Row:
  import torch

  from undo_jax import objectives
  from undo_jax.frontier import compute

  is_gpu = setting.platform == "gpu"
  side = Distillation(shape, "cuda" if is_gpu else "cpu", attention, rows)
  start = time.perf_counter()
  for _ in range(2):
    side()
  side.wait()
  compiling = time.perf_counter() - start
  seconds = timed(side, side.wait, setting.seconds)
  cost = compute.training(
    shape.model,
    objectives.method("forward_kl", {}),
    updates=1,
    batch_size=rows,
    length=shape.length,
  )
  return {
    "batch": f"{rows} x {shape.length}",
    "compile_seconds": compiling,
    "memory_bytes": torch.cuda.max_memory_allocated() if is_gpu else None,
    **speeds(seconds, cost.tokens, "tokens", cost.flops, setting.peak),
  }


class Distillation:
  """Teacher forward, student forward and backward, clipping, AdamW, as users write it.

  Matrices are multiplied in bfloat16; the student's weights are float32, the teacher's
  bfloat16, as on our side.
  """

  def __init__(self, shape: Size, device: str, attention: str, rows: int):
    import torch
    import transformers

    torch.compiler.reset()  # Of what did not fit nothing is kept.
    gc.collect()
    if device == "cuda":
      torch.cuda.empty_cache()
      torch.cuda.reset_peak_memory_stats()
    else:
      torch.set_num_threads(common.num_cores())
    torch.set_float32_matmul_precision("high")
    config = pytorch.gemma2_config(shape.model, attention)
    with torch.device(device):
      self._student = transformers.Gemma2ForCausalLM(config).train()
      self._teacher = transformers.Gemma2ForCausalLM(config).eval().bfloat16()
    self._optimizer = torch.optim.AdamW(
      self._student.parameters(), lr=1e-4, weight_decay=0.0, fused=True
    )
    tokens = common.draw_tokens(shape.model.vocab_size, (rows, shape.length), 0)
    self._tokens = torch.from_numpy(tokens).long().to(device)
    self._device = device
    self._loss = torch.compile(self._divergence, dynamic=False)

  def __call__(self) -> None:
    """Start an update."""
    import torch

    self._loss(self._tokens).backward()
    torch.nn.utils.clip_grad_norm_(self._student.parameters(), 1.0)
    self._optimizer.step()
    self._optimizer.zero_grad()

  def wait(self) -> None:
    """Return when all that was started is done."""
    import torch

    if self._device == "cuda":
      torch.cuda.synchronize()

  def _divergence(self, tokens):
    import torch

    with torch.autocast(self._device, torch.bfloat16):
      with torch.no_grad():
        teacher = pytorch.logits(self._teacher, tokens)
      student = pytorch.logits(self._student, tokens)
    return pytorch.forward_kl(student.float(), teacher.float())
