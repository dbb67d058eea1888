"""Scorers: sealed programs that turn an artifact into a score, each in its own process."""
