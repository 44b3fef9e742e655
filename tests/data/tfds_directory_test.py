"""Datasets of others are read, but nothing they name is imported or opened."""

import ast
import json
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

import undo_jax
from undo_jax.data import images, tfds_directory
from undo_jax.utils.errors import ConfigError

OWN = "tensorflow_datasets.core.features."
# A class that TFDS would take, in a module that leaves a mark.
PAYLOAD = """
import pathlib
import tensorflow_datasets as tfds
pathlib.Path(__file__).with_name("marker").touch()

class Thing(tfds.features.Text):
  pass
"""


class Lines(tfds.core.GeneratorBasedBuilder):
  """Features of most kinds, nested."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    kinds = tfds.features
    features = {
      "type": kinds.Text(),
      "label": kinds.ClassLabel(names=["a", "b"]),
      "many": kinds.Sequence({"x": kinds.Tensor(shape=(2,), dtype=np.int32)}),
      "box": kinds.BBoxFeature(),
      "labels": {"number": kinds.Scalar(np.float32)},
    }
    return tfds.core.DatasetInfo(builder=self, features=kinds.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for n in range(3):
      yield (
        n,
        {
          "type": f'{{"type": {n}}}',
          "label": n % 2,
          "many": {"x": [[n, n]]},
          "box": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
          "labels": {"number": n},
        },
      )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """The files of a good dataset, by name."""
  directory = tmp_path_factory.mktemp("tfds")
  Lines(data_dir=directory, file_format="array_record").download_and_prepare()
  (info,) = directory.rglob("dataset_info.json")
  return {path.name: path.read_bytes() for path in info.parent.iterdir()}


@pytest.fixture
def directory(tmp_path, prepared, monkeypatch):
  """A copy of it, and a package beside it that leaves a mark when it is imported."""
  package = tmp_path / "code" / "imgdata_of_others"
  package.mkdir(parents=True)
  (package / "__init__.py").write_text("")
  (package / "payload.py").write_text(PAYLOAD)
  monkeypatch.syspath_prepend(package.parent)
  made = tmp_path / "data"
  made.mkdir()
  for name, content in prepared.items():
    (made / name).write_bytes(content)
  yield made
  assert not (package / "marker").exists(), "code of the dataset was run"
  assert "imgdata_of_others" not in sys.modules


def edit(path, change):
  value = json.loads(path.read_text())
  path.write_text(json.dumps(change(value) or value))


def refused(directory):
  with pytest.raises(ConfigError) as error:
    tfds_directory.open_builder(directory)
  assert "\n" not in str(error.value) and str(directory) in str(error.value)
  return str(error.value)


def test_good_datasets_are_read(directory):
  info = directory / "dataset_info.json"
  edit(info, lambda value: value.update(moduleName="imgdata_of_others.payload"))
  builder = tfds_directory.open_builder(directory)
  rows = list(builder.as_data_source("train"))
  assert sorted(row["type"].decode() for row in rows) == [
    f'{{"type": {n}}}' for n in range(3)
  ]
  assert builder.info.features["label"].names == ["a", "b"]


def test_the_older_form_of_features_is_read(directory):
  content = {
    "type": {"type": OWN + "text_feature.Text", "content": {}},
    "label": {
      "type": OWN + "class_label_feature.ClassLabel",
      "content": {"num_classes": 2},
    },
  }
  value = {"type": OWN + "features_dict.FeaturesDict", "content": content}
  (directory / "features.json").write_text(json.dumps(value))
  builder = tfds_directory.open_builder(directory)
  assert set(builder.info.features) == {"type", "label"}


THING = "imgdata_of_others.payload.Thing"
OLD = {"type": THING, "content": {}}
NEW = {"pythonClassName": THING, "text": {}}


def in_json(value):
  """A feature of TFDS's own type whose content is JSON in a string."""
  return {
    "pythonClassName": OWN + "features_dict.FeaturesDict",
    "jsonFeature": {"json": " " + json.dumps({"x": value})},
  }


def in_dict(value):
  return {
    "pythonClassName": OWN + "features_dict.FeaturesDict",
    "featuresDict": {"features": {"type": value}},
  }


def in_old_dict(value):
  return {"type": OWN + "features_dict.FeaturesDict", "content": {"type": value}}


def in_sequence(value):
  own = {"feature": value, "length": 1}
  return {"type": OWN + "sequence_feature.Sequence", "content": own}


@pytest.mark.parametrize(
  "features",
  [
    OLD,
    NEW,
    {"python_class_name": THING, "text": {}},
    in_dict(NEW),
    in_old_dict(OLD),
    in_old_dict(in_dict(NEW)),
    in_old_dict(in_sequence(in_sequence(OLD))),
    in_json(OLD),
    in_dict(in_json(in_sequence(NEW))),
    {"type": [THING], "content": {}},
  ],
)
@pytest.mark.parametrize("place", ["features.json", "dataset_info.json"])
def test_the_module_of_a_type_is_never_imported(directory, features, place):
  if place == "features.json":
    (directory / place).write_text(json.dumps(features))
  else:
    edit(directory / place, lambda value: value.update(features=features))
  message = refused(directory)
  assert message.startswith(f"{directory / place}: expected feature types of tensorfl")
  assert THING in message and "tfds.features" in message


@pytest.mark.parametrize(
  "name",
  [
    "tensorflow_datasets.testing.setup_teardown.Thing",  # A module, but no feature.
    "tensorflow_datasets.datasets.mnist.mnist_dataset_builder.Builder",
    OWN + "text_feature.Other",
    "Text",
    "",
  ],
)
def test_types_of_tfds_are_known_by_their_whole_name(directory, name):
  edit(directory / "features.json", lambda _: in_dict({"pythonClassName": name}))
  before = set(sys.modules)
  assert f"got {name!r}, whose code would be" in refused(directory)
  assert set(sys.modules) == before


@pytest.mark.parametrize(
  "content", [{"names_file": "/etc/passwd"}, {"names_file": "gs://bucket/names"}]
)
def test_no_other_file_is_read_for_names(directory, content):
  feature = {"type": OWN + "class_label_feature.ClassLabel", "content": content}
  edit(directory / "features.json", lambda _: in_old_dict(feature))
  assert "expected names of files in its own directory, got names_file=" in refused(
    directory
  )
  image = {"type": OWN + "labeled_image.LabeledImage", "content": {"labels": "/x"}}
  edit(directory / "features.json", lambda _: in_old_dict(image))
  assert "got labels='/x'" in refused(directory)


@pytest.mark.parametrize(
  "change, message",
  [
    (
      lambda info: info["splits"][0].update(filepathTemplate="../{SPLIT}"),
      r"files in its own directory, got .*/\.\./train",
    ),
    (
      lambda info: info["splits"][0].update(filepath_template="/etc/{SPLIT}"),
      "got /etc/train",
    ),
    (
      lambda info: info["splits"][0].update(filepathTemplate="{SPLIT:>99999999999}"),
      "got filepathTemplate='{SPLIT:>9{11}}'",
    ),
    (
      lambda info: info["splits"][0].update(filepathTemplate="{SPLIT.__class__}"),
      "got filepathTemplate=",
    ),
    (lambda info: info.update(name="../../lines"), r"got .*/\.\./\.\./lines-train"),
    (lambda info: info.update(version="no version"), "which says: "),
    (lambda info: info.update(fileFormat=7), "which says: "),
    (lambda info: info.update(splits="none"), "which says: "),
    (lambda info: [info], "dataset_info.json is no JSON object"),
  ],
)
def test_places_outside_and_broken_files_are_named(directory, change, message):
  edit(directory / "dataset_info.json", change)
  assert re.search(message, refused(directory))


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize(
  "content",
  [b"", b"{", b"\xff", b"null", b"[" * 10**5, b'{"features": "' + b"[" * 10**5],
)
def test_what_is_no_json_is_named(directory, name, content):
  (directory / name).write_bytes(content)
  assert str(directory / name) in refused(directory)


def test_deep_strings_are_refused(directory):
  edit(directory / "features.json", lambda _: {"x": "[" * 10**5})
  assert "features.json is nested too deeply" in refused(directory)


def test_images_are_read_through_the_same_door(directory):
  (directory / "features.json").write_text(json.dumps(in_old_dict(OLD)))
  with pytest.raises(ConfigError, match="whose code would be imported and run"):
    images.load(str(directory))


def test_no_other_module_opens_datasets_of_others():
  names = {"builder_from_directory", "builder_from_directories", "builder_from_files"}
  root = pathlib.Path(undo_jax.__file__).parent
  for path in sorted(root.rglob("*.py")):
    calls = {
      node.attr
      for node in ast.walk(ast.parse(path.read_text()))
      if isinstance(node, ast.Attribute)
      and (
        node.attr in names
        or node.attr in ("load", "builder")
        and isinstance(node.value, ast.Name)
        and node.value.id == "tfds"
      )
    }
    assert not calls or path == root / "data" / "tfds_directory.py", path
