"""The pages behind the chat, at `/staff`: requests, numbers, facts, questions, answers.

Without an account there are none. `guard.py` is the door that every route goes through.
"""
