"""Configs of the study of model advantage (experiments/model_advantage)."""
