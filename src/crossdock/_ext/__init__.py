"""Compiled kernels land here when the package is built; only stubs are kept in git."""
