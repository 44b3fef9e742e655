"""Score a model on the retain and forget tasks.

COMMAND:

  python -m experiments.evaluate --config=CONFIG --workdir=DIR --checkpoint=CHECKPOINT

Needs --checkpoint.
The same command resumes; finished stages are not run again.
"""

from experiments import single

if __name__ == "__main__":
  single.main("evaluate")
