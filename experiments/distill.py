"""UNDO alone: noise the unlearned model at every alpha and distill it back in.

COMMAND:

  python -m experiments.distill --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is the unlearned one, whoever made it.
The same command resumes; finished stages are not run again.
"""

from experiments import single

if __name__ == "__main__":
  single.main("distill")
