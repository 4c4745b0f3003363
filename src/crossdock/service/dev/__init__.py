"""``crossdock serve --dev``: what `az` needs of a cloud before it imports, on this machine, for tests."""
