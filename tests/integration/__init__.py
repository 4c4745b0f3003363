"""The real command against real servers: what issue 3 promises, seen from outside."""
