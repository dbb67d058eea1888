"""The `anthropic` and `openai` agents: one small program, started afresh for every iteration."""
