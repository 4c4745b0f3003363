"""Measures crossdock against its rivals and against a floor in C. See README.md; nothing in src imports this."""
