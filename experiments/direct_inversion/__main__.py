"""Run the study; see configs/direct_inversion/digits.py for its command."""

from experiments.direct_inversion import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
