"""Run the study; see configs/fictitious_play/matrix_games.py for its command."""

from experiments.fictitious_play import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
