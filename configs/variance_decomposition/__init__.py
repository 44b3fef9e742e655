"""Configs of the study of experiments/variance_decomposition."""
