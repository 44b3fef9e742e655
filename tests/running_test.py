"""The data stage packs what the tokenizer's file says."""

import numpy as np
import tokenizers as hf

from configs import arithmetic
from undo_jax import running, stages
from undo_jax.data import arithmetic as documents
from undo_jax.data import rows, tokenizer_training
from undo_jax.training import sharding


def test_rows_are_the_ids_of_the_tokenizers_file(tmp_path):
  texts = [problem.text for problem in documents.equations()]
  (tmp_path / "all.txt").write_text("\n".join(texts))
  output = tmp_path / "tokenizer"
  tokenizer_training.train(
    [str(tmp_path / "all.txt")], output, kind="bpe", vocab_size=262
  )
  config = arithmetic.get_config("tiny")
  config.data.update(
    num_equations=50, num_evaluation=1, tokenizer=f"huggingface:{output}"
  )
  run = running.Run(
    tmp_path / "run",
    sharding.make_mesh(**config.mesh),
    checkpoint_every=1,
    evaluation_rows=1,
    replicas_at_once=None,
    stages=tuple(stages.plan(config)[:1]),
  )
  assert running.run_stages(run)["data"]["rows"] == {"retain": 50, "forget": 50}
  source = rows.source(run.directories["data"] / "rows", length=16, split="retain")
  upstream = hf.Tokenizer.from_file(str(output / "tokenizer.json"))
  known = {tuple(upstream.encode(text).ids): text for text in texts}
  for index in range(50):
    ids = source[index]["tokens"][source[index]["mask"] == 1].tolist()
    assert (ids[0], ids[-1]) == (2, 1)
    operation = known[tuple(ids[1:-1])].split()[1]
    assert operation in "+-"
    assert np.all(source[index]["tokens"][source[index]["mask"] == 0] == 0)
