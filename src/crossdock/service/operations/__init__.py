"""Accepted imports: stored, queued, run and reported."""
