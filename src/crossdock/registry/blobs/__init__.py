"""Blobs of a repository, read in ranges."""
