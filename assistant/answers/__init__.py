"""From a topic to the words that a visitor reads."""
