"""Copying everything in one registry to others: names and patterns, the listing, the run."""
