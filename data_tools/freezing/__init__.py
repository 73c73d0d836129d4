"""Narratives out: frozen snapshots, and exports of collections."""
