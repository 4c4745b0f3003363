"""Measures crossdock against its rivals and against a floor in C: see README.md."""
