"""Kuhn poker: its equilibria are known in closed form."""

import pytest

from experiments.poker import equilibrium, kuhn, tree
from experiments.poker.tree import PLAYERS
from undo_jax.utils.errors import ConfigError


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1 / 3])
def test_the_known_equilibria_cannot_be_exploited(alpha, fresh):
  game, profile = kuhn.tree(fresh=fresh), kuhn.equilibrium(alpha)
  assert tree.value(game, profile) == pytest.approx(-1 / 18)
  for player in PLAYERS:
    exploited = equilibrium.exploited(game, profile, player)
    assert exploited == pytest.approx(-1 / 18, abs=1e-12)


def test_beyond_their_range_they_can_be():
  profile = {**kuhn.equilibrium(1 / 3)}
  profile["first"] = {**profile["first"], (0, ""): {"p": 0.5, "b": 0.5}}
  assert equilibrium.exploited(kuhn.tree(), profile, "second") < -1 / 18 - 1e-3


@pytest.mark.parametrize("alpha", [-0.1, 0.34, float("nan"), "a"])
def test_alphas_out_of_range_end_in_one_line(alpha):
  with pytest.raises(ConfigError, match=r"alpha .* \[0, 1/3\], got") as raised:
    kuhn.equilibrium(alpha)
  assert "\n" not in str(raised.value)
