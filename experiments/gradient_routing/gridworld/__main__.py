"""Run the study; see configs/gradient_routing/gridworld.py for its command."""

from experiments.gradient_routing.gridworld import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
