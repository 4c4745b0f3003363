"""Compares crossdock with its rivals and with a floor in C; see README.md."""
