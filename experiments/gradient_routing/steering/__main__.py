"""Run the study; see configs/gradient_routing/steering.py for its command."""

from experiments.gradient_routing import running
from experiments.gradient_routing.steering import study

if __name__ == "__main__":
  running.main(study.make)
