"""What setup.cfg cannot say: the folder configs is the package undo_jax.configs."""

from setuptools import find_packages, setup

shipped = [f"undo_jax.{name}" for name in find_packages(include=["configs*"])]
setup(
  packages=find_packages(include=["undo_jax*"]) + shipped,
  package_dir={"undo_jax.configs": "configs"},
)
