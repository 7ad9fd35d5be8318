"""Stores that the original server wrote, imported and compared answer for answer."""
