"""The stock project's own code."""
