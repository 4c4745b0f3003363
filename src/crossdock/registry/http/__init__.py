"""What requests to one registry stand on: TLS, proxies, the scheme, back-off and the errors of responses."""
