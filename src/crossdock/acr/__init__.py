"""What `az acr` does, against any registry."""
