"""Run the study; see configs/gradient_routing/splitting.py for its command."""

from experiments.gradient_routing.splitting import study
from experiments.shared import running

if __name__ == "__main__":
  running.main(study.make)
