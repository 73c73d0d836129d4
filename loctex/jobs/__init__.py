"""Runs and jobs: their folders, queue, watcher, command lines, failures, GPUs. No torch."""
