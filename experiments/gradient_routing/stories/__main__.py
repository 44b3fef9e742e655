"""Run the study; see configs/gradient_routing/stories.py for its command."""

from experiments.gradient_routing import running
from experiments.gradient_routing.stories import study

if __name__ == "__main__":
  running.main(study.make)
