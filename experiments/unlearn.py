"""Unlearn by the methods of config.unlearn.methods.

COMMAND:

  python -m experiments.unlearn --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is unlearned in place of the base.
The same command resumes; finished stages are not run again.
"""

from experiments import single

if __name__ == "__main__":
  single.main("unlearn")
