"""The service's HTTP: Azure Resource Manager's paths, and our own."""
