"""The daemon: intent, effect, result. It sees ports only."""
