"""Runs whose work is done by the workers of a Dask cluster."""
