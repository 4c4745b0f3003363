"""What a registry is and can do: what is known of it, and what it shows when it is tried."""
