"""--config and its fields: every one can be given, None and tuples included."""

from absl import flags
from ml_collections import config_dict
import pytest

from undo_jax.cli import overrides
from undo_jax.utils import config_files, records
from undo_jax.utils.errors import ConfigError


def parse(*arguments, config="arithmetic:tiny"):
  values = flags.FlagValues()
  argv = ["undo-jax", f"--config={config}", *arguments]
  holder = overrides.define(values, argv)
  values(argv)
  return holder.value


def leaves(config, prefix=""):
  for name, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from leaves(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


@pytest.mark.parametrize("name", config_files.names())
def test_every_field_takes_its_own_value_and_none(name):
  expected = dict(leaves(config_files.load(name)))
  named = {path: records.flag(f"config.{path}") for path in expected}
  same = [f"{named[path]}={value}" for path, value in expected.items()]
  assert dict(leaves(parse(*same, config=name))) == expected
  nones = [f"{named[path]}=None" for path in expected]
  assert set(dict(leaves(parse(*nones, config=name))).values()) == {None}


@pytest.mark.parametrize(
  "field, text, value",
  [
    ("models.undo.sweep.noise.alpha", "(0.2,0.8)", (0.2, 0.8)),
    ("models.undo.sweep.noise.alpha", "(0.2,)", (0.2,)),
    ("models.undo.sweep.noise.alpha", "0.2", (0.2,)),
    ("models.undo.sweep.noise.alpha", "()", ()),
    ("attacks.relearn.models", "('rmu',)", ("rmu",)),
    (
      "models.undo.optimizer.trainable",
      "(('layers/.*',(0,1)),)",
      (("layers/.*", (0, 1)),),
    ),
    ("models.base.optimizer.final_learning_rate", "None", None),
    ("models.base.optimizer.final_learning_rate", "1e-4", 1e-4),
    ("attacks.lora.options.alpha", "8", 8.0),
    ("replicas_at_once", "2", 2),
    ("models.rmu.run", "false", False),
    ("data.tokenizer", "bytes", "bytes"),
    ("data.english.paths", "a.txt", ("a.txt",)),
  ],
)
def test_values_are_read_by_the_type_of_their_field(field, text, value):
  config = parse(f"--config.{field}={text}")
  assert dict(leaves(config))[field] == value
  assert config.is_locked


def test_flags_without_a_value_and_with_it_apart_and_the_last_of_two():
  config = parse(
    "--noconfig.models.rmu.run",
    "--config.checkpoint_every",
    "3",
    "--config.models.undo.sweep.noise.alpha=(0.1,)",
    "--config.models.undo.sweep.noise.alpha=(0.2,)",
  )
  assert (config.models.rmu.run, config.checkpoint_every) == (False, 3)
  assert config.models.undo.sweep.noise.alpha == (0.2,)


@pytest.mark.parametrize(
  "argument, message",
  [
    (
      "models.base.optimizer.lr=1",
      r"config\.models\.base\.optimizer has no field lr; did you mean learning_rate",
    ),
    ("modles.rho=1", r"config has no field modles; did you mean models"),
    ("lora.rank=1", r"config has no field lora; its fields are .*models, .*attacks"),
    ("pretrain.num_steps=1", r"no field pretrain; its fields are .*models, .*attacks"),
    ("rank=1", r"config has no field rank; did you mean attacks\.lora\.options\.rank"),
    ("max_loss.x=1", r"config\.max_loss has no field x, it is no block"),
    ("checkpoint_every=1e3", r"every=1e3: expected a whole number or None"),
    ("models.undo.noise.beta=much", r"noise\.beta=much: expected a number or None"),
    ("seeds=(0,", "expected a tuple such as '[(]1,2[)]' or '[(]1,[)]' or None"),
    ("models.rmu.run=maybe", "expected true, false or None"),
  ],
)
def test_wrong_fields_and_values_are_named(argument, message):
  with pytest.raises(flags.IllegalFlagValueError, match=message):
    parse(f"--config.{argument}")


SELECTING = """
from undo_jax import config as c

def get_config(arg=None):
  config = c.shipped("arithmetic:tiny")
  config.selections.few = c.selection(share=0.01)
  config.mixtures.clean = c.selected("few", config.mixtures.pretrain)
  return config
"""


def test_a_name_with_a_colon_stands_in_brackets(tmp_path):
  (tmp_path / "selecting.py").write_text(SELECTING)
  file = str(tmp_path / "selecting.py")
  flag = records.flag("config.mixtures.clean.forget:few")
  assert flag == "--config.mixtures.clean['forget:few']"
  config = parse(f"{flag}=0.25", "--config.mixtures.pretrain.retain=0.7", config=file)
  weights = {name: w for name, w in config.mixtures.clean.items() if w}
  assert weights == {"retain:few": 0.7, "forget:few": 0.25}
  for given, said in (
    ("mixtures.clean.forget:few", r"expected --config.mixtures.clean\['forget:few'\]"),
    ("mixtures.clean['forget:fwe']", "clean has no field forget:fwe; did you mean for"),
  ):
    with pytest.raises(ConfigError, match=said):
      overrides.check_fields(config, [f"--config.{given}=0.1"])
