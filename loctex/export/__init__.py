"""Weights for other people's code, with a model card."""
