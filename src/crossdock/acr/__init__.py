"""What Azure's container registry service does beside the distribution specification, against any registry.

``az acr import`` as a value, its checks in their order, its defaults and its policies; the import itself
through the library. The command line and a service in front of it share this and nothing else.
"""
