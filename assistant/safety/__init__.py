"""Red flags: found by fixed patterns, before and apart from everything that is learned."""
