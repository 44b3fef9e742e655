"""Configs of the study of Vervaat perpetuities (experiments/vervaat)."""
