"""The fault suite: break things around a running server and note what the visitor saw.

python -m tests.faults [--list] [--only NAME] [--report docs/faults.md]
"""
