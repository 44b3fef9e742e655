"""Run the study; see configs/gradient_routing/tug_of_war.py for its command."""

from experiments.gradient_routing import running
from experiments.gradient_routing.tug_of_war import study

if __name__ == "__main__":
  running.main(study.make)
