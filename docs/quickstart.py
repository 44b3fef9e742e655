# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # undo_jax in five minutes
#
# A small model learns + - * /, unlearns * and /, and is then attacked: does the
# capability come back? Runtime: about five minutes on two CPU cores, less on a GPU.
#
# Once, in a shell or a cell of its own:
#
#     git clone <this repository>
#     pip install './undo_jax[run]' matplotlib

# %%
import json
import os
import pathlib
import subprocess
import sysconfig

import jax
import matplotlib.pyplot as plt
import numpy as np

from undo_jax import load, toward_init
from undo_jax.models.decoder import noise_rules

WORKDIR = pathlib.Path("runs/quickstart")


def undo_jax(command, flags):
  """Runs a command of undo_jax, as in a shell."""
  program = pathlib.Path(sysconfig.get_path("scripts")) / "undo-jax"
  given = [f"--{name}={value}" for name, value in flags.items()]
  subprocess.run([program, command, *given], check=True)


# %% [markdown]
# ## Run it
#
# The config is a table of models and a table of attacks. Four models are enough here:
# the base, the reference that never saw * and /, one that was only unlearned, and UNDO
# at one strength. `MORE` may override any value.

# %%
MORE = json.loads(os.environ.get("QUICKSTART", "{}"))
LEFT_OUT = ("grad_diff", "rmu", "oracle_matching", "unlearn_and_distill")
flags = {"config": "arithmetic:tiny", "workdir": WORKDIR}
flags |= {f"config.models.{name}.run": False for name in LEFT_OUT}
flags |= {"config.models.undo.sweep.noise.alpha": "(0.6,)"}
undo_jax("undo", flags | MORE)

# %% [markdown]
# ## Does it come back?
#
# The attacker finetunes each model at five learning rates on problems that are not
# scored. What counts is the worst case within so many updates.

# %%
results = json.loads((WORKDIR / "results.json").read_text())
for name, model in results["models"].items():
  for attack in model["runs"][0]["attacks"].values():
    worst = np.maximum.accumulate(attack["worst_forget"])
    plt.plot(attack["steps"], worst, label=name)
plt.xlabel("updates of relearning")
plt.ylabel("accuracy on * and /, worst case")
plt.legend()
plt.show()

# %% [markdown]
# ## What noise does to weights
#
# theta' = (1 - alpha) * theta + alpha * beta * N. One matrix of the base, from the
# left: as it was trained, alpha .3 and .6, and a fresh one.

# %%
exported = WORKDIR / "exported"
undo_jax("export", {"checkpoint": WORKDIR / "stages" / "base", "output": exported})
config, params = load(exported)
rules = noise_rules(config)
figure, axes = plt.subplots(1, 4, figsize=(12, 3), sharey=True)
for alpha, axis in zip((0.0, 0.3, 0.6, 1.0), axes, strict=True):
  noised = toward_init(params, jax.random.key(0), alpha=alpha, beta=0.1, rules=rules)
  matrix = np.asarray(noised["layers"]["mlp"]["up"]["kernel"][0])
  axis.imshow(matrix[:48, :48], cmap="RdBu", vmin=-0.2, vmax=0.2)
  axis.set_title(f"alpha {alpha:g}")
plt.show()

# %% [markdown]
# ## A checkpoint of yours
#
# `runs/quickstart/exported` is a Hugging Face directory: config.json, safetensors,
# a tokenizer and a model card; transformers opens it. In the other direction every
# command takes `--checkpoint=DIR`, and attacks or makes robust what was unlearned
# elsewhere:

# %%
flags = {"config": "arithmetic:tiny", "workdir": "runs/evaluated"}
flags |= {name: value for name, value in MORE.items() if ".data." in name}
undo_jax("evaluate", flags | {"checkpoint": exported})
print(sorted(path.name for path in exported.iterdir()))

# %% [markdown]
# More: `runs/quickstart/report.html` is the page of this run; the frontier of all
# methods, attacks and seeds is `undo-jax frontier --config=frontier:tiny`.
