"""Stands before the assistant's own `actions` on Python's path: holds the same and one module more."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
