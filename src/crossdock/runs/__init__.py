"""Runs: one copy or many, with what they share, count and report. `crossdock.session` is the way in."""
