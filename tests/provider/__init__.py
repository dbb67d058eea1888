"""A provider of language models for tests: Messages, Responses and Chat Completions over real sockets.

    with Provider([Reply(tools=(ToolCall("look", {"path": "train.py"}),)), Reply(text="done")]) as provider:
        ...  # provider.url is the base address, provider.requests what was asked

Covered: streamed and plain answers, tool calls, reasoning, usage, refusals, answers that are cut short, and every fault
of `Fault`, each as the API in question shows it. Not covered: authentication, limits of its own, real token counts.
"""

from tests.provider.replies import Api, Fault, Reply, Request, Script, ToolCall, Usage, limited
from tests.provider.server import Provider

__all__ = ["Api", "Fault", "Provider", "Reply", "Request", "Script", "ToolCall", "Usage", "limited"]
