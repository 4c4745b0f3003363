"""The basis of requests to one registry: TLS, proxies, the scheme, back-off and errors of responses."""
