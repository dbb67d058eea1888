"""A supervisor for autonomous research loops. Importing it does nothing."""

__version__ = "0.1.0"
