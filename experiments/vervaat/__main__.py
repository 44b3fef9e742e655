"""Run the study; see configs/vervaat/perpetuities.py for its command."""

from experiments.shared import running
from experiments.vervaat import study

if __name__ == "__main__":
  running.main(study.make)
