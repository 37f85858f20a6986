"""Tells the office about requests, by e-mail and webhook."""
