"""The reader of compiled programs: on a text written here, and on real ones."""

import jax
import jax.numpy as jnp
import pytest

from tests.estimation import aliases
from undo_jax import testing
from undo_jax.distributed import sharding
from undo_jax.estimation import compiled_text

# ruff: noqa: E501
# A loop of (24 - 4) / 2 turns around one of 3; what is inside a fusion has no cycles,
# and two fusions that share a channel do one collective between them.
TEXT = """HloModule jit_f, is_scheduled=true

%add.clone (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%fused_computation (p: f32[8,16]) -> f32[8,16] {
  %p = f32[8,16]{1,0} parameter(0)
  ROOT %all-to-all.3 = f32[8,16]{1,0} all-to-all(%p), channel_id=9, replica_groups={{0,1,2,3}}, dimensions={0}, backend_config={"window_config":{"estimated_cycles":"99999"}}
}

%fused_computation.1 (p.1: f32[8,16]) -> f32[8,16] {
  %p.1 = f32[8,16]{1,0} parameter(0)
  %product = f32[8,16]{1,0} convolution(%p.1, %p.1), dim_labels=bf_io->bf
  ROOT %all-to-all.4 = f32[8,16]{1,0} all-to-all(%p.1), channel_id=9, replica_groups={{0,1,2,3}}, dimensions={0}
}

%inner_body (s: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %s = (s32[], f32[8,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %v = f32[8,16]{1,0} get-tuple-element(%s), index=1
  %work = f32[8,16]{1,0} fusion(%v), kind=kLoop, calls=%fused_computation, backend_config={"window_config":{"estimated_cycles":"10"}}
  %more = f32[8,16]{1,0} fusion(%work), kind=kLoop, calls=%fused_computation.1, backend_config={"window_config":{"estimated_cycles":"20"}}
  ROOT %out = (s32[], f32[8,16]{1,0}) tuple(%next, %more)
}

%inner_condition (s.1: (s32[], f32[8,16])) -> pred[] {
  %s.1 = (s32[], f32[8,16]{1,0}) parameter(0)
  %limit = s32[] constant(3)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

%body (t: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %t = (s32[], f32[8,16]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%t), index=0
  %two = s32[] constant(2)
  %next.1 = s32[] add(%j, %two)
  %v.1 = f32[8,16]{1,0} get-tuple-element(%t), index=1
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,16]{1,0}) tuple(%zero, %v.1)
  %loop = (s32[], /*index=1*/f32[8,16]{1,0}) while(%start), condition=%inner_condition, body=%inner_body
  %u = f32[8,16]{1,0:T(8,128)} get-tuple-element(%loop), index=1
  %sum.1 = f32[8,16]{1,0} all-reduce(%u), channel_id=2, replica_groups=[2,8]<=[16], to_apply=%add.clone
  %copy.1 = f32[8,16]{1,0} copy(%sum.1), backend_config={"window_config":{"estimated_cycles":"7"}}
  ROOT %out.1 = (s32[], f32[8,16]{1,0}) tuple(%next.1, %copy.1)
}

%condition (t.1: (s32[], f32[8,16])) -> pred[] {
  %t.1 = (s32[], f32[8,16]{1,0}) parameter(0)
  %limit.1 = s32[] constant(24)
  %j.1 = s32[] get-tuple-element(%t.1), index=0
  ROOT %less.1 = pred[] compare(%j.1, %limit.1), direction=LT
}

ENTRY %main (a: f32[8,4]) -> f32[8,16] {
  %a = f32[8,4]{1,0} parameter(0)
  %gather-start = (f32[8,4]{1,0}, f32[8,16]{1,0}) all-gather-start(%a), channel_id=1, replica_groups=mesh['x'=4,'y'=2] {'x'}, dimensions={1}
  %beside = f32[8,4]{1,0} copy(%a), backend_config={"window_config":{"estimated_cycles":"5"}}
  %gather = f32[8,16]{1,0} all-gather-done(%gather-start)
  %four = s32[] constant(4)
  %start.1 = (s32[], f32[8,16]{1,0}) tuple(%four, %gather)
  %loop.1 = (s32[], f32[8,16]{1,0}) while(%start.1), condition=%condition, body=%body
  ROOT %result = f32[8,16]{1,0} get-tuple-element(%loop.1), index=1
}
"""


def test_loops_are_multiplied_in_and_fusions_count_whole():
  totals = compiled_text.read(TEXT)
  assert totals.assumed_loops == 0
  assert totals.cycles == 5 + 10 * (3 * (10 + 20) + 7)
  assert totals.counts == {"all-gather": 1, "all-reduce": 10, "all-to-all": 30}
  size = 8 * 16 * 4
  assert totals.bytes == {
    "all-gather": size,
    "all-reduce": 10 * size,
    "all-to-all": 30 * size,
  }
  # Twice 7/8 of an all-reduce over 8; the rest runs beside computation.
  assert totals.sent_bytes == 10 * size * 2 * 7 / 8
  assert totals.hidden_bytes == (1 + 30) * size * 3 / 4
  assert totals.hidden_share == pytest.approx(31 * 0.75 / (31 * 0.75 + 10 * 1.75))


@pytest.mark.parametrize(
  ("changes", "open_pieces"),
  [
    # Between the start and the done nothing is computed.
    ({'copy(%a), backend_config={"window_config":{"estimated_cycles":"5"}}': "copy(%a)"}, 1),
    # The computation comes after the done.
    ({"all-gather-done(%gather-start)": "copy(%b)", "%beside = f32[8,4]{1,0}": "%b = f32[8,16]{1,0} all-gather-done(%gather-start)\n  %beside = f32[8,4]{1,0}"}, 1),
    # The fusions of the all-to-all only send: no product in them.
    ({"convolution(%p.1, %p.1)": "multiply(%p.1, %p.1)"}, 30),
  ],
)  # fmt: skip
def test_a_collective_with_nothing_beside_it_is_waited_for(changes, open_pieces):
  text = TEXT
  for old, new in changes.items():
    assert old in text
    text = text.replace(old, new)
  whole, totals = compiled_text.read(TEXT), compiled_text.read(text)
  waited = totals.sent_bytes - whole.sent_bytes
  assert waited == whole.hidden_bytes - totals.hidden_bytes
  assert waited == open_pieces * 8 * 16 * 4 * 3 / 4


def test_aliases_are_read_from_the_header():
  def fn(state, x):
    return {"a": state["a"] + x.sum(), "b": state["b"] * 2}, x + 1

  a, b = jax.ShapeDtypeStruct((4,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
  args = {"a": a, "b": b}, jax.ShapeDtypeStruct((3,), jnp.float32)
  kept = jax.jit(fn).lower(*args).compile().as_text()
  assert aliases.aliases(kept) == {}
  donated = jax.jit(fn, donate_argnums=0).lower(*args).compile().as_text()
  assert aliases.aliases(donated) == {0: 0, 1: 1}
  single = jax.jit(lambda x: x + 1, donate_argnums=0).lower(a).compile().as_text()
  assert aliases.aliases(single) == {0: 0}


@pytest.mark.parametrize(
  ("changes", "turns"),
  [
    ({"constant(24)": "constant(25)"}, 11),  # 4, 6, ..., 24.
    ({"direction=LT\n}\n\nENTRY": "direction=LE\n}\n\nENTRY"}, 11),
    ({"%two = s32[] constant(2)": "%two = s32[] constant(5)"}, 4),
    ({"body=%body": 'body=%body, backend_config={"known_trip_count":{"n":"6"}}'}, 6),
  ],
)
def test_turns_follow_from_start_step_and_limit(changes, turns):
  text = TEXT
  for old, new in changes.items():
    assert old in text
    text = text.replace(old, new)
  assert compiled_text.read(text).counts["all-reduce"] == turns


def test_a_loop_that_does_not_say_counts_once_and_is_told():
  text = TEXT.replace("%limit.1 = s32[] constant(24)", "%limit.1 = s32[] foo(%t.1)")
  totals = compiled_text.read(text)
  assert totals.assumed_loops == 1 and totals.counts["all-reduce"] == 1


def test_collectives_of_a_program_compiled_here():
  mesh = testing.mesh(8, data=2, fsdp=4)
  rows = sharding.batch_sharding(mesh)
  x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=rows)

  def fn(x):
    def body(c, _):
      return c + jnp.sum(jnp.cos(c), axis=0, keepdims=True), None

    return jax.lax.scan(body, x, None, length=5)[0]

  text = jax.jit(fn, out_shardings=rows).lower(x).compile().as_text()
  totals = compiled_text.read(text)
  assert totals.assumed_loops == 0
  assert totals.counts == {"all-reduce": 5}
  assert totals.bytes == {"all-reduce": 5 * 32 * 4}
  assert totals.sent_bytes == 5 * 32 * 4 * 2 * 7 / 8
