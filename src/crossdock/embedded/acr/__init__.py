"""What Azure's registries have besides the distribution specification."""
