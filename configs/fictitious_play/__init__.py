"""Configs of the study of fictitious play (experiments/fictitious_play)."""
