"""The import service for `az` and the Azure SDKs. Only ``crossdock serve`` loads it."""
