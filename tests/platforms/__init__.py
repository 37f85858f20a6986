"""Stand-ins for the messaging platforms: they sign as documented, take what we send, and can fail."""
