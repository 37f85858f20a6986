"""The bad-input suite: what a visitor, a browser or an attacker may send, and what must come back.

`python -m tests.fuzz` runs it against a server of its own; docs/testing.md says what it looks at.
"""
