"""A migration file and what is done with it: plan, apply, verify."""
