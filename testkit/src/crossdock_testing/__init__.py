"""crossdock's test kit: Azure on this machine, a token server, a fault proxy. The wheel has none of it."""
