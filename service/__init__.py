"""Yika: what a social security card means, and what may be done with it."""
