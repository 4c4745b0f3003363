"""The features of Azure's registry service beyond the distribution specification, for any registry.

``az acr import`` as a value, with az's checks in their order, its defaults and policies, and the import
itself. The command and the service share it.
"""
