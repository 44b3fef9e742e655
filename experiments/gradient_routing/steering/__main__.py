"""Run the study; see configs/gradient_routing/steering.py for its command."""

from experiments.gradient_routing.steering import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
