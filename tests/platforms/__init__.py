"""Stand-ins for the messaging platforms: they sign, check, record and fail as the real ones document."""
