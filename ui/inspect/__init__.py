"""The Inspect tab and its Atlas."""
