"""Run the study; see configs/variance_decomposition/poker.py for its command."""

from experiments.shared import running
from experiments.variance_decomposition import study

if __name__ == "__main__":
  running.main(study.make)
