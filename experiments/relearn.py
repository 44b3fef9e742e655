"""Attack alone: relearn the forget data at every learning rate.

COMMAND:

  python -m experiments.relearn --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is attacked; else every model of the config.
The same command resumes; finished stages are not run again.
"""

from experiments import single

if __name__ == "__main__":
  single.main("relearn")
