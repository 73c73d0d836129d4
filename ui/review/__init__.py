"""The Review, Mine and Team tabs."""
