"""JSON web tokens of identity providers, verified. The network is for the providers' keys alone."""
