"""The kind and the capabilities of a registry: as the tables have them, and as found by trying."""
