"""What glibc keeps and gives back, in processes of their own."""

import os
import platform
import subprocess
import sys

import pytest

from undo_jax.utils import allocator

pytestmark = [
  pytest.mark.processes,
  pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone"),
]
needs_huge_pages = pytest.mark.skipif(
  not allocator.has_huge_pages(), reason="the kernel has no huge pages to give"
)


def printed(code, *arguments, **environment):
  """Return the lines that a program prints where nobody has chosen an allocator."""
  chosen = ("GLIBC_", "MALLOC_", "LD_PRELOAD")
  kept = {k: v for k, v in os.environ.items() if not k.startswith(chosen)}
  done = subprocess.run(
    [sys.executable, "-c", code, *map(str, arguments)],
    capture_output=True,
    text=True,
    env=kept | environment,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.split("\n")[:-1]


# Takes and gives back blocks of the sizes that follow, as an update of a model does;
# prints the resident bytes after each.
BLOCKS = """
import ctypes, psutil, sys
from undo_jax.utils import allocator
assert allocator.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for size in map(int, sys.argv[1:]):
  block = libc.malloc(size)
  assert block
  ctypes.memset(block, 1, size)
  libc.free(block)
  print(psutil.Process().memory_info().rss)
allocator.return_freed_memory()
print(psutil.Process().memory_info().rss)
"""


def test_small_blocks_are_kept_and_those_of_a_gigabyte_go_back():
  lines = printed(BLOCKS, 1 << 20, 200 << 20, 1100 << 20)
  first, kept, after, returned = map(int, lines)
  assert kept - first > 190 << 20
  assert after - kept < 50 << 20
  # What was kept is given back when it is asked for.
  assert after - returned > 190 << 20


# Keeps a block, then compiles; prints the resident bytes before and after.
COMPILED = """
import ctypes, jax, jax.numpy as jnp, psutil
from undo_jax.utils import allocator
assert allocator.keep_freed_memory()
allocator.return_after_compiling()

def layers(x):
  for _ in range(60):
    x = jnp.tanh(x @ x)
  return x.sum()

compiles = jax.jit(jax.grad(layers)).lower(jnp.ones((8, 8))).compile
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
block = libc.malloc(200 << 20)
ctypes.memset(block, 1, 200 << 20)
libc.free(block)
print(psutil.Process().memory_info().rss)
compiles()
print(psutil.Process().memory_info().rss)
"""


def test_freed_memory_goes_back_after_a_compilation():
  before, after = map(int, printed(COMPILED, JAX_ENABLE_COMPILATION_CACHE="false"))
  assert before - after > 100 << 20


STARTED = """
import os, sys
from undo_jax.utils import allocator
print("begins", flush=True)
allocator.use_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv)
"""


@needs_huge_pages
def test_a_program_starts_again_with_huge_pages_and_its_arguments():
  lines = printed(STARTED, "--seed=1", "a b")
  tunables = "glibc.malloc.hugetlb=1"
  assert lines == ["begins", "begins", f"{tunables} ['-c', '--seed=1', 'a b']"]


# The command that imports least.
COMMAND = "print('begins', flush=True); from undo_jax import cli; cli.run('prepare')"


@needs_huge_pages
def test_a_command_starts_with_them_unless_jax_is_there_already():
  assert printed(COMMAND, "--help").count("begins") == 2
  assert printed("import jax; " + COMMAND, "--help").count("begins") == 1


@pytest.mark.parametrize(
  "chosen",
  [
    {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"},
    {"MALLOC_ARENA_MAX": "2"},
    {"LD_PRELOAD": ""},
  ],
)
def test_what_the_user_has_chosen_stays(chosen):
  lines = printed(STARTED, **chosen)
  assert lines == ["begins", f"{chosen.get('GLIBC_TUNABLES')} ['-c']"]


# Updates by a loss over a large vocabulary; prints the bytes of their temporaries, then
# the resident ones after each.
UPDATES = """
from undo_jax.utils import allocator
allocator.use_huge_pages()
assert allocator.keep_freed_memory()
import time, jax, jax.numpy as jnp, numpy as np, psutil

def loss(params, tokens):
  logits = jnp.tanh(params["embedding"][tokens] @ params["unembedding"])
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], 1).sum()

@jax.jit
def step(params, tokens):
  gradients = jax.grad(loss)(params, tokens)
  return jax.tree.map(lambda x, y: x - 1e-3 * y, params, gradients)

sizes = {"embedding": (16384, 64), "unembedding": (64, 16384)}
params = {name: np.full(size, 0.1, np.float32) for name, size in sizes.items()}
tokens = np.arange(2048)
step = step.lower(params, tokens).compile()
print(step.memory_analysis().temp_size_in_bytes)
allocator.return_freed_memory()
for _ in range(12):
  params = step(params, tokens)
  jax.block_until_ready(params)
  resident = []
  for _ in range(10):  # XLA frees its temporaries after the results are there.
    time.sleep(0.1)
    resident.append(psutil.Process().memory_info().rss)
  print(min(resident))
"""


@needs_huge_pages
def test_memory_does_not_grow_from_update_to_update():
  temporaries, *resident = map(int, printed(UPDATES, JAX_NUM_CPU_DEVICES="1"))
  assert 1 << 28 < temporaries < 1 << 30
  # A block that is lost at each update would add 134 MB to each; the heap's own holes
  # settle at up to 45 MB.
  assert max(resident[1:]) < resident[0] + 90e6
  assert max(resident) < temporaries + 100e6
