"""Moved to levelfield.results."""

from levelfield.results import Results

__all__ = ["Results"]
