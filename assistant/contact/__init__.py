"""Requests for an appointment, a call back or a person: kept encrypted, handed to the office."""
