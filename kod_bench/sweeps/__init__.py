"""Sweeps: search spaces, plans, trials on Ray, progress and resume. Ray is imported only here."""
