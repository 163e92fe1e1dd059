"""Feeding the recommended set back to the reduction core."""
