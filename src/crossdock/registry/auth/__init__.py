"""Credentials, tokens and challenges: the ``Authorization`` header of each request."""
