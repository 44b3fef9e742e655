"""Configs of the study in experiments/variance_decomposition."""
