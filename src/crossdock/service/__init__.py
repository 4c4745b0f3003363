"""The import service, which `az` and the Azure SDKs drive. Loaded by ``crossdock serve`` alone."""
