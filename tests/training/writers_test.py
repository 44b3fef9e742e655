"""The progress of a preparation tells its rates, source by source."""

import logging

from undo_jax.data.documents.preparation import Status
from undo_jax.training import writers


def test_rates_of_each_source_are_logged(monkeypatch, caplog):
  now = [100.0]
  monkeypatch.setattr(writers.time, "monotonic", lambda: now[0])
  monkeypatch.setattr(logging.getLogger("undo_jax"), "propagate", True)
  caplog.set_level(logging.INFO, "undo_jax")
  progress = writers.Preparation("preparing")
  for source in ("forget", "retain"):
    for step in range(4):
      now[0] += 20.0 * bool(step)
      progress(
        Status(
          source=source,
          documents=100 * step,
          tokens=4000 * step,
          num_bytes=1,
          file_bytes=10**6 * step,
          total_bytes=3 * 10**6,
        )
      )
  progress.close()
  assert [record.getMessage() for record in caplog.records] == [
    line
    for source in ("forget", "retain")
    for line in (
      f"preparing: {source}: 0 of 3 megabytes",
      f"preparing: {source}: 1/3 megabytes, 0.1/s, 00:40 left  "
      "100 documents, 5/s; 4000 tokens, 200/s",
      f"preparing: {source}: 2/3 megabytes, 0.1/s, 00:20 left  "
      "200 documents, 5/s; 8000 tokens, 200/s",
      f"preparing: {source}: 3/3 megabytes, 0.1/s, 00:00 left  "
      "300 documents, 5/s; 12000 tokens, 200/s",
      f"preparing: {source}: 3/3 megabytes, 0.1/s, 00:00 left  "
      "300 documents, 5/s; 12000 tokens, 200/s",
    )
  ]
