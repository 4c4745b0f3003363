"""The unmodified az drives the service; ``make test-az`` runs these."""
