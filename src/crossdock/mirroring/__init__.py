"""All that one registry holds, copied to others: names and patterns, the listing, the run."""
