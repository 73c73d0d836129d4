"""What people recorded: narratives, traces, words, pictures, snapshots. No torch."""
