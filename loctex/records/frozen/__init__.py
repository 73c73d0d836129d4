"""What a frozen snapshot is on disk."""
