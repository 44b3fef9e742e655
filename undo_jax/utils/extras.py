"""The extras of the package: which one installs a missing library."""

from undo_jax.utils.errors import ConfigError

# Import name of a library -> the extra of setup.cfg that brings it.
EXTRAS = {
  "array_record": "data",
  "filelock": "run",
  "gcsfs": "gcs",
  "gguf": "gguf",
  "google": "data",  # Of protobuf.
  "grain": "data",
  "jinja2": "report",
  "libtpu": "tpu-compile",
  "lm_eval": "lm-eval",
  "matplotlib": "studies",
  "mlflow": "mlflow",
  "optuna": "search",
  "orbax": "run",
  "phevaluator": "studies",
  "psutil": "run",
  "pyarrow": "data",
  "ray": "ray",
  "rouge_score": "tofu",
  "safetensors": "hf",
  "selectolax": "data",
  "sentencepiece": "data",
  "sklearn": "selection",
  "submitit": "slurm",
  "tabulate": "run",
  "tensorboardX": "run",
  "tensorflow_datasets": "data",
  "tokenizers": "data",
  "tqdm": "run",
  "trackio": "trackio",
  "vl_convert": "report",
  "wandb": "wandb",
}


def install(extra: str) -> str:
  """Return the command that installs an extra."""
  return f"pip install 'undo-jax[{extra}]'"


def needed(extra: str, error: ImportError) -> ConfigError:
  """Return the error to raise in the place of one that says what is missing."""
  return ConfigError(f"{error}; what this needs comes by {install(extra)}")


def explain(error: ImportError) -> ConfigError | None:
  """Return `needed` for a missing library; None if no extra has it."""
  name = (error.name or "").partition(".")[0]
  return needed(EXTRAS[name], error) if name in EXTRAS else None
