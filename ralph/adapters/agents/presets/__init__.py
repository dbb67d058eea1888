"""Coding CLIs that ralph knows how to start: pure data and small functions, one module per CLI."""
