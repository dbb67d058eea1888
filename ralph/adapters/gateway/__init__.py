"""The gateway: a process beside each agent that calls a provider, and the only one of the two that has the key."""
