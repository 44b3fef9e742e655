"""The table of results made by hand."""

from experiments.gradient_routing.steering import results

MEASURED = {
  "score": 0.9,
  "rank": 3,
  "auc": 0.512,
  "nearest": [(" forest", 0.9), (" log", 0.5)],
  "related": [0.5],
  "others": [0.1],
  "losses": {"forget": 0.6789, "retain": 0.5},
  "unit": 1.0,
  "steering": {"5": {"word": 0.25, "related": 1.0, "sample": ""}},
}
RESULTS = {
  "word": "forest",
  "seeds": [0, 4],
  "models": {name: {"0": MEASURED, "4": MEASURED} for name in results.MODELS},
}


def test_the_table_has_a_row_for_each_model_and_seed():
  lines = results.table(RESULTS).splitlines()
  rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
  assert rows[0][4] == "word (related) at 5"
  assert [row[0] for row in rows[2:]] == [
    "routed, 0",
    "routed, 4",
    "control, 0",
    "control, 4",
  ]
  assert rows[2][1:] == ["3", "0.51", "0.679 / 0.500", "0.25 (1.00)", "forest log"]
