"""Azure on this machine: a cloud that `az` can log in to, and the token endpoints of its registries."""
