"""Returns, occupancies and losses against sums over time and over pairs of states."""

import itertools

import numpy as np
import pytest

from experiments.model_advantage import tabular

DISCOUNT, STEPS = 0.8, 200


@pytest.fixture(scope="module")
def made():
  rng = np.random.default_rng(0)
  mdp, other = (tabular.draw(rng, 4, 2, DISCOUNT) for _ in range(2))
  model = mdp._replace(transitions_SxAxS=other.transitions_SxAxS)
  return mdp, model, rng.dirichlet(np.ones(2), size=4)


def walked(mdp, policy_SxA):
  """Return the return and the discounted visits, step by step."""
  total, visits_SxA, here_S = 0.0, np.zeros((4, 2)), mdp.start_S
  for time in range(STEPS):
    both_SxA = here_S[:, None] * policy_SxA
    total += DISCOUNT**time * (both_SxA * mdp.rewards_SxA).sum()
    visits_SxA += (1 - DISCOUNT) * DISCOUNT**time * both_SxA
    here_S = sum(
      both_SxA[s, a] * mdp.transitions_SxAxS[s, a]
      for s, a in itertools.product(range(4), range(2))
    )
  return total, visits_SxA


def test_values_and_occupancies_are_sums_over_time(made):
  for mdp in made[:2]:
    total, visits_SxA = walked(mdp, made[2])
    assert mdp.start_S @ tabular.values(mdp, made[2]) == pytest.approx(total, abs=1e-12)
    got_SxA = tabular.occupancy(mdp, made[2])
    np.testing.assert_allclose(got_SxA, visits_SxA, atol=1e-12)
    assert got_SxA.sum() == pytest.approx(1.0)


def test_identities_give_the_difference_and_bounds_are_sums_over_pairs(made):
  mdp, model, policy_SxA = made
  got = tabular.chain(mdp, model, policy_SxA)
  difference = walked(mdp, policy_SxA)[0] - walked(model, policy_SxA)[0]
  for name in ("difference", "identity", "dual"):
    assert getattr(got, name) == pytest.approx(difference, abs=1e-12)
  visits_SxA, values_S = walked(mdp, policy_SxA)[1], tabular.values(model, policy_SxA)
  sums = dict.fromkeys(("signed", "l1", "l2"), 0.0)
  for s, a, t, u in itertools.product(range(4), range(2), range(4), range(4)):
    weight = visits_SxA[s, a] * mdp.transitions_SxAxS[s, a, t]
    weight *= model.transitions_SxAxS[s, a, u]
    sums["l1"] += weight * abs(values_S[t] - values_S[u])
    sums["l2"] += weight * (values_S[t] - values_S[u]) ** 2
  wide = DISCOUNT / (1 - DISCOUNT)
  assert got.l1 == pytest.approx(wide * sums["l1"])
  assert got.l2 == pytest.approx(wide * sums["l2"] ** 0.5)
  assert abs(difference) < got.absolute < got.l1 < got.l2


def test_the_truth_has_no_advantage_but_losses_that_a_model_of_one_state_beats(made):
  mdp, _, policy_SxA = made
  got = tabular.chain(mdp, mdp, policy_SxA)
  assert got.difference == got.identity == got.absolute == 0.0
  assert got.l1 > 0.1 and got.l2 > 0.1
  assert all(0 < ratio < 1 for ratio in tabular.beaten_by_one_state(mdp, policy_SxA))
  # Of a coin of 9 to 1 the likelier side: 1 - .9 against 2 * .9 * .1, in L1 and L2.
  coin = tabular.Mdp(
    np.array([[[0.9, 0.1]], [[0.9, 0.1]]]),
    np.array([[0.0], [1.0]]),
    np.ones(2) / 2,
    0.5,
  )
  ratios = tabular.beaten_by_one_state(coin, np.ones((2, 1)))
  assert ratios == pytest.approx((0.1 / 0.18, (0.1 / 0.18) ** 0.5))
