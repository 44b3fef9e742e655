"""Pretrain the base and the data-filtering model.

COMMAND:

  python -m experiments.pretrain --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, both go on from that model.
The same command resumes; finished stages are not run again.
"""

from experiments import single

if __name__ == "__main__":
  single.main("pretrain")
