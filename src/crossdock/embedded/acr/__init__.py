"""Azure's additions to the distribution specification: users and tokens, metadata, locks."""
