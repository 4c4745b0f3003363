"""``crossdock registry``: an aiohttp server for the distribution specification over OCI layouts."""
