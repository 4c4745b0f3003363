"""``crossdock registry``: an aiohttp server that speaks the distribution specification over an OCI layout."""
