"""Registries that list their manifests by an API of their own: strict doubles before a real registry."""
