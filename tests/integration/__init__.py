"""Black-box tests: the real command against real servers."""
