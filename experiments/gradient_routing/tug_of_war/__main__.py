"""Run the study; see configs/gradient_routing/tug_of_war.py for its command."""

from experiments.gradient_routing.tug_of_war import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
