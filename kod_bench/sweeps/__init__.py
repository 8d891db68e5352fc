"""Sweeps: search spaces, plans, trials on Ray, progress and resume, each in a room of its own."""
