"""Credentials, tokens and what they make of a challenge: the ``Authorization`` of each request."""
