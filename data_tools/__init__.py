"""Things at rest: the store of narratives, the public files, frozen snapshots, rendered scenes."""
