"""The inventory: which registries there are, who we are there, and where names are served. No network."""
