"""What editors write: topics with their answers, sources, and the office's own facts."""
