"""Simulated narratives, of rendered scenes and of labeled photographs."""
