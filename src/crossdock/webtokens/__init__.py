"""Verification of identity providers' JSON web tokens. Only their keys are fetched over the network."""
