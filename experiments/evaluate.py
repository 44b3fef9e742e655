"""Score a model on the retain and forget tasks.

COMMAND:

  python -m experiments.evaluate --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

Without --checkpoint, every model of the config, trained first where it is not yet;
--models names some of them.
The same command resumes; finished stages are not run again.
"""

from experiments import single

if __name__ == "__main__":
  single.main("evaluate")
