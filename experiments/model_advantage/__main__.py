"""Run the study; see configs/model_advantage/models.py for its command."""

from experiments.gradient_routing import running
from experiments.model_advantage import study

if __name__ == "__main__":
  running.main(study.make)
