"""Run the study; see configs/gradient_routing/gridworld.py for its command."""

from experiments.gradient_routing import running
from experiments.gradient_routing.gridworld import study

if __name__ == "__main__":
  running.main(study.make)
