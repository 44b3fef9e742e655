"""Configs of the study of Direct Inversion (experiments/direct_inversion)."""
