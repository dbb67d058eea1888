"""The scripted half of every port: a laboratory in memory with its own clock, for tests, simulations and demos."""
