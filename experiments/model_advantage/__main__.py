"""Run the study; see configs/model_advantage/models.py for its command."""

from experiments.model_advantage import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
