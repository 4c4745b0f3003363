"""Imports that were accepted: kept, queued, run and told about."""
