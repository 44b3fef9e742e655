"""Run the study; see configs/gradient_routing/stories.py for its command."""

from experiments.gradient_routing.stories import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
