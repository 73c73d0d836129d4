"""What looks odd in a take, agreement between annotators, captions mended."""
