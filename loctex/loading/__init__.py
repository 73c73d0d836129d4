"""Snapshots to batches: mixture, augmentation, tokens, collate."""
