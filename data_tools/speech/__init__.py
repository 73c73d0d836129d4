"""Voices: kept, read, and aligned to the words of a caption."""
