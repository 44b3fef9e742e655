"""Losses in chunks against the plain ones: values, gradients, and what is held."""

import functools

import jax
from jax.extend.core import jaxprs_in_params
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import CASES
from undo_jax import objectives, testing
from undo_jax.models.decoder import Decoder, shapes
from undo_jax.objectives import chunked
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.max_ent import uniform_kl
from undo_jax.training.gradients import loss_and_gradients

B, L, V, D = 8, 12, 16, 16
BATCH = testing.batch(jax.random.key(1), rows=B, length=L, vocab=V)
LOSSES = {
  "cross_entropy": lambda x, y: cross_entropy(x, BATCH["targets"], BATCH["mask"]),
  "forward_kl": lambda x, y: forward_kl(x, y, BATCH["mask"]),
  "uniform_kl": lambda x, y: uniform_kl(x, BATCH["mask"]),
}
# One position, some, a size that does not divide, all, more than all.
CHUNKS = (1, 4, 5, 12, 99)
CAPPED = {"logit_softcap": 2.0}  # Low enough to bend these logits.


def normal(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


@functools.cache
def gradients(loss, chunk, dtype="float32", **changes):
  """Return (sum, count), gradients of hidden states and unembedding."""
  decoder = Decoder(testing.config(dtype=dtype, **changes))
  dtype = jnp.dtype(dtype)
  hidden, other = normal(40, 2, B, L, D).astype(dtype)
  if decoder.config.tied:
    weights = {"embedding": normal(41, V, D)}
  else:
    weights = {"head": {"kernel": normal(41, D, V)}}
  # A teacher is held in the compute dtype.
  teacher = jax.tree.map(lambda x: 2 * x[::-1].astype(dtype), weights)

  def logits(hidden, weights):
    if chunk is None:
      return decoder.unembed(weights, hidden)
    return chunked.Deferred(hidden, weights, decoder.unembed, chunk)

  def value(hidden, weights):
    # The sum scaled, as a mean and a weight do.
    total = LOSSES[loss](logits(hidden, weights), logits(other, teacher))
    return 0.3 * total.sum, total

  fn = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
  (_, total), grads = jax.device_get(jax.jit(fn)(hidden, weights))
  return total, grads


def close(mine, plain, tolerance):
  """Compare leaf by leaf, relative to the leaf's largest entry."""
  mine, plain = jax.device_get((mine, plain))
  for x, y in zip(jax.tree.leaves(mine), jax.tree.leaves(plain), strict=True):
    assert x.dtype == y.dtype and x.shape == y.shape
    scale = np.abs(y).max()
    assert scale > 0
    np.testing.assert_allclose(x / scale, y / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
  ("loss", "chunk"),
  # All losses are cut alike; this one has two logits to cut.
  [("cross_entropy", 5), ("uniform_kl", 5), *(("forward_kl", x) for x in CHUNKS)],
)
def test_values_and_gradients_are_those_of_the_plain_form(loss, chunk):
  close(gradients(loss, chunk, **CAPPED), gradients(loss, None, **CAPPED), 2e-6)


def test_the_head_of_an_untied_model():
  untied = {"tied": False, "logit_softcap": None}
  mine = gradients("cross_entropy", 5, **untied)
  close(mine, gradients("cross_entropy", None, **untied), 2e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "forward_kl"])
def test_bfloat16_is_no_further_from_float32_than_the_plain_form(loss):
  exact = gradients(loss, None, **CAPPED)
  plain = gradients(loss, None, "bfloat16", **CAPPED)
  mine = gradients(loss, 5, "bfloat16", **CAPPED)
  assert mine[1][0].dtype == jnp.bfloat16
  assert mine[1][1]["embedding"].dtype == jnp.float32
  for x, y, z in zip(*map(jax.tree.leaves, (mine, plain, exact)), strict=True):
    errors = [np.linalg.norm(np.float64(side) - np.float64(z)) for side in (x, y)]
    assert errors[0] <= 1.1 * errors[1] <= 0.02 * np.linalg.norm(np.float64(z))


class Small(Decoder):
  """One layer, of each token alone; unembedding and logits are the decoder's own."""

  def hidden(self, params, tokens_BxL, *, capture=(), hidden_BxLxD=None, **options):
    if hidden_BxLxD is not None:
      return jnp.tanh(hidden_BxLxD), {}, None
    before = params["embedding"][tokens_BxL]
    written = before * jnp.tanh(before)
    nodes = {"embedding": before, "mlp/out": written[None]}
    nodes["residual"] = (before + written)[None]
    return jnp.tanh(before + written), {k: nodes[k] for k in capture}, None


def test_what_is_deferred_is_what_the_decoder_computes():
  config = testing.config(num_layers=1, logits_chunk=5)
  decoder, capture = Decoder(config), ("embedding", "mlp/out", "residual")

  @jax.jit
  def outputs(params):
    computed = []
    for apply in (chunked.deferring(decoder), decoder.apply):
      whole = apply(params, BATCH["inputs"], capture=capture)
      state = whole.captured["embedding"]
      lens = apply(params, BATCH["inputs"], hidden_BxLxD=state)
      computed.append((whole.captured, whole.logits, lens.logits))
    (captured, *deferred), plain = computed
    logits = [x.unembed(x.weights, x.hidden_BxLxD) for x in deferred]
    return (captured, *logits), plain

  close(*outputs(testing.weights(config)), 1e-6)


def test_a_step_is_the_same():
  """Through the objective and the microbatches."""
  results = []
  weights, teacher = {"embedding": normal(1, V, D)}, {"embedding": normal(2, V, D)}
  for chunk, num_microbatches in ((None, 1), (5, 2)):
    apply = chunked.deferring(Small(testing.config(logits_chunk=chunk)))
    fn = objectives.make("forward_kl", apply)
    step = functools.partial(loss_and_gradients, fn, num_microbatches=num_microbatches)
    updated = jax.jit(step)(weights, {"teacher": teacher}, BATCH, jax.random.key(2))
    results.append(updated)
  close(*reversed(results), 1e-5)


def test_unlearning_with_all_its_terms_is_the_same():
  """Of RepNoise: MaxEnt, its own terms, and the KL to the model from before."""
  # Blank positions count as uniform predictions, so it asks for the vocabulary's size.
  options = {"retain_weight": 0.5, "alpha": 1.0, "beta": 0.1, "only_differing": True}
  retain = testing.batch(jax.random.key(3), rows=B, length=L, vocab=V)
  parts = {"forget": BATCH, "retain": retain}
  results = []
  weights, reference = {"embedding": normal(1, V, D)}, {"embedding": normal(2, V, D)}
  for chunk in (None, 5):
    apply = chunked.deferring(Small(testing.config(logits_chunk=chunk)))
    fn = objectives.make("max_ent_rep_noise", apply, retain_loss="kl", **options)
    step = jax.jit(functools.partial(loss_and_gradients, fn))
    updated = step(weights, {"reference": reference}, parts, jax.random.key(2))
    results.append(updated)
  close(*reversed(results), 1e-5)


def test_masked_positions_change_nothing_whatever_their_hidden_state():
  decoder = Decoder(testing.config(logits_chunk=5))
  targets, mask = BATCH["targets"], np.asarray(BATCH["mask"])
  weights, hidden = {"embedding": normal(5, V, D)}, normal(4, B, L, D)

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def value(hidden):
    logits = chunked.Deferred(hidden, weights, decoder.unembed, 5)
    loss = cross_entropy(logits, targets, mask)
    return loss.sum, loss.count

  other = np.where(mask[:, :, None] > 0, hidden, np.float32(1e4))
  actual, grad = value(other)
  assert actual == value(hidden)[0]
  assert not np.any(np.asarray(grad)[mask == 0])
  assert float(actual[1]) == float(mask.sum())


def test_a_population_takes_its_gradients_in_chunks():
  decoder = Decoder(testing.config())
  hidden, weights = normal(4, B, L, D), normal(5, 3, V, D)

  def value(weights, chunk):
    logits = chunked.Deferred(hidden, {"embedding": weights}, decoder.unembed, chunk)
    return cross_entropy(logits, BATCH["targets"], BATCH["mask"]).sum

  together = jax.jit(jax.vmap(jax.grad(functools.partial(value, chunk=5))))(weights)
  one = jax.jit(jax.grad(functools.partial(value, chunk=L)))
  close(together, np.stack([one(w) for w in weights]), 2e-6)


def shapes_in(jaxpr):
  """Yield the sizes of all arrays a program makes, inner programs included."""
  for equation in jaxpr.eqns:
    yield from (var.aval.size for var in equation.outvars if hasattr(var.aval, "size"))
    for inner in jaxprs_in_params(equation.params):
      yield from shapes_in(inner)


# Unlearning whose forget term reads logits.
OF_LOGITS = ("max_ent", "npo", "simnpo", "satimp", "ce_u", "undial", "jensun")
OF_LOGITS += ("idk_dpo",)


@pytest.mark.parametrize("method", OF_LOGITS[1:])
def test_unlearning_is_the_same(method):
  """With the gradient of a row's likelihood among them, through the microbatches."""
  retain = testing.batch(jax.random.key(3), rows=B, length=L, vocab=V)
  parts, results = {"forget": BATCH, "retain": retain}, []
  weights, reference = {"embedding": normal(1, V, D)}, {"embedding": normal(2, V, D)}
  for chunk, num_microbatches in ((None, 1), (5, 2)):
    apply = chunked.deferring(Small(testing.config(logits_chunk=chunk)))
    fn = objectives.make(method, apply, **CASES[method][1])
    step = functools.partial(loss_and_gradients, fn, num_microbatches=num_microbatches)
    updated = jax.jit(step)(weights, {"reference": reference}, parts, jax.random.key(2))
    results.append(updated)
  close(*reversed(results), 1e-5)


@pytest.mark.parametrize("method", ["cross_entropy", "forward_kl", *OF_LOGITS])
def test_no_more_than_a_chunk_of_logits_is_ever_made(method):
  paired = method in OF_LOGITS
  options = CASES[method][1] if paired else {}
  batch = {"forget": BATCH, "retain": BATCH} if paired else BATCH
  # A vocabulary larger than all else: arrays of more than B*chunk*V are logits.
  sizes = {}
  for chunk in (None, 3):
    config = testing.config(vocab_size=1024, logits_chunk=chunk)
    fn = objectives.make(method, chunked.deferring(Small(config)), **options)
    weights = shapes(config)
    jaxpr = jax.make_jaxpr(functools.partial(loss_and_gradients, fn))(
      weights, {"teacher": weights, "reference": weights}, batch, jax.random.key(0)
    )
    sizes[chunk] = max(shapes_in(jaxpr.jaxpr))
  assert sizes == {None: B * L * 1024, 3: B * 3 * 1024}


def test_the_decoder_makes_no_logits_that_are_deferred():
  config = testing.config(vocab_size=1024, logits_chunk=3)
  apply = chunked.deferring(Decoder(config))
  jaxpr = jax.make_jaxpr(apply)(shapes(config), BATCH["inputs"])
  assert max(shapes_in(jaxpr.jaxpr)) < B * L * 1024


def test_frozen_logits_cost_no_gradient():
  decoder = Decoder(testing.config())
  student, teacher = jnp.ones((2, B, L, D))
  weights = {"embedding": jnp.ones((1024, D))}

  def value(hidden, weights):
    logits = chunked.Deferred(hidden, weights, decoder.unembed, 4)
    frozen = chunked.Deferred(
      teacher, {"embedding": jnp.ones((1024, D))}, decoder.unembed, 4
    )
    loss = chunked.summed(lambda x, y, mask: uniform_kl(x - y, mask))
    return loss(logits, frozen, BATCH["mask"]).sum

  jaxpr = jax.make_jaxpr(jax.grad(value, argnums=(0, 1)))(student, weights)
  # Two unembeddings, and two products of the one gradient.
  assert products(jaxpr.jaxpr, 1024) == 4


def products(jaxpr, size):
  """Count the matrix products with an axis of `size`."""
  count = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      shapes = [var.aval.shape for var in (*equation.invars, *equation.outvars)]
      count += any(size in shape for shape in shapes)
    for inner in jaxprs_in_params(equation.params):
      count += products(inner, size)
  return count


def test_the_count_has_no_gradient_and_can_be_differentiated():
  decoder = Decoder(testing.config())
  weights = {"embedding": jnp.ones((V, D))}

  def count(hidden):
    logits = chunked.Deferred(hidden, weights, decoder.unembed, 4)
    return uniform_kl(logits, BATCH["mask"]).count ** 2

  assert not np.any(jax.jit(jax.grad(count))(jnp.ones((B, L, D))))


def test_an_array_with_a_gradient_is_refused_beside_deferred_logits():
  deferred = chunked.Deferred(
    jnp.ones((B, L, D)), {"embedding": jnp.ones((V, D))}, None, 4
  )

  def value(teacher_logits):
    kl = chunked.summed(lambda s, t, m: uniform_kl(s + t, m))
    return kl(deferred, teacher_logits, BATCH["mask"]).sum

  with pytest.raises(ValueError, match="argument 1 .* only Deferred"):
    jax.grad(value)(jnp.ones((B, L, V)))


def test_a_teachers_logits_may_be_there_already():
  decoder = Decoder(testing.config())
  weights = {"embedding": normal(5, V, D)}
  hidden, teacher = normal(4, 2, B, L, D)

  def value(hidden, student):
    return forward_kl(student(hidden), teacher, BATCH["mask"]).sum

  def deferred(hidden):
    return chunked.Deferred(hidden, weights, decoder.unembed, 5)

  plain = functools.partial(decoder.unembed, weights)
  mine, other = (
    jax.jit(jax.grad(functools.partial(value, student=student)))(hidden)
    for student in (deferred, plain)
  )
  close(mine, other, 2e-6)
