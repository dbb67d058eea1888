"""The real program as a child process, in a folder with an arena, talking to the provider of these tests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.provider import Api, Reply, Request, ToolCall

TRAIN = "LEARNING_RATE = 0.1  # per step\nWIDTH = 8\nprint('val_bpb:', LEARNING_RATE + 1 / WIDTH)\n"
EDIT = ToolCall("replace", {"path": "train.py", "old": "LEARNING_RATE = 0.1 ", "new": "LEARNING_RATE = 0.2 "})
LOOK = ToolCall("look", {"path": "train.py"})
SUBMIT = ToolCall(
    "submit",
    {
        "hypothesis": "a larger learning rate, because training ends early; expect a gain",
        "expected": "-0.01",
        "learnings": [{"text": "width matters little", "evidence": ["#3", 4]}],
        "supersedes": ["#2"],
    },
)
EDITS = Reply(text="I change the learning rate.", tools=(EDIT,))
SUBMITS = Reply(tools=(SUBMIT,))
APIS = (Api.MESSAGES, Api.RESPONSES, Api.CHAT)
BRIEF = """\
# Brief for experiment {id} of c

## New since the last brief

```data
#{id} discard: {news}
```

## Your task

Make val_bpb small. Edit in place: train.py. Write `.ralph/proposal.json`.

## The human's strategy: program.md

```markdown
Aim low.

## The editable files
is no heading in here
```

## Where the campaign stands

- {news}

## The editable files

`train.py`
```python
{train}```
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the program ended."""

    status: int
    err: str
    seconds: float
    proposal: dict[str, Any] | None
    told: dict[str, Any]


@dataclass(kw_only=True)
class Office:
    """One agent's folder and environment."""

    root: Path
    api: Api
    url: str
    timeout_s: float = 60.0
    brief: str = BRIEF.format(id=5, news="nothing new", train=TRAIN)
    editable: tuple[str, ...] = ("train.py",)
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "train.py").write_text(TRAIN)
        (self.folder / "prepare.py").write_text("FIXED = True\n")
        (self.root / "secret.txt").write_text("out of reach\n")
        (self.root / "history.jsonl").touch()

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self.root / "tree"

    @property
    def train(self) -> str:
        """The editable file as it is now."""
        return (self.folder / "train.py").read_text()

    def environment(self) -> dict[str, str]:
        """What the launcher promises, and little else."""
        facts = {"id": 5, "attempt": 1, "campaign": "c", "editable": list(self.editable), "incumbent": None}
        (self.root / "facts.json").write_text(json.dumps(facts))
        (self.root / "brief.md").write_text(self.brief)
        kind = "anthropic" if self.api is Api.MESSAGES else "openai"
        return {
            **{k: os.environ[k] for k in ("PATH", "RALPH_TEST_MARK") if k in os.environ},
            "HOME": str(self.root),
            "RALPH_BRIEF": str(self.root / "brief.md"),
            "RALPH_FACTS": str(self.root / "facts.json"),
            "RALPH_HISTORY": str(self.root / "history.jsonl"),
            "RALPH_PROPOSAL": str(self.folder / ".ralph" / "proposal.json"),
            "RALPH_SEED": "1",
            "RALPH_TIMEOUT_S": f"{self.timeout_s:g}",
            "RALPH_AGENT_KIND": kind,
            "RALPH_API": "chat" if self.api is Api.CHAT else "responses",
            "RALPH_MODEL": "test-model",
            "RALPH_GATEWAY": self.url,
            "RALPH_GATEWAY_KEY": "ralph-dummy-1",
            **self.env,
        }

    def run(self) -> Ended:
        """Start it and wait for its end."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ralph.adapters.agents.llm"],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=90, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.monotonic() - began
        proposal, ended = self.folder / ".ralph" / "proposal.json", self.folder / ".ralph" / "ended.json"
        told = json.loads(ended.read_text()) if ended.exists() else {}
        last = done.stderr.splitlines()[-1] if done.stderr else ""
        assert done.stdout == "", done.stdout
        assert not told or last == f"ralph-agent-ended: {json.dumps(told, ensure_ascii=False)}", done.stderr
        return Ended(
            status=done.returncode, err=done.stderr, seconds=seconds, told=told,
            proposal=json.loads(proposal.read_text()) if proposal.exists() else None,
        )  # fmt: skip


def said(request: Request) -> str:
    """Everything that a request tells the model, as one text."""
    return "\n".join(_texts({k: v for k, v in request.body.items() if k != "tools"}))


def results(request: Request) -> list[str]:
    """The results of tools in a request, oldest first."""
    match request.api:
        case Api.MESSAGES:
            blocks = [b for m in request.body["messages"] for b in m["content"] if isinstance(b, dict)]
            return [b["content"] for b in blocks if b["type"] == "tool_result"]
        case Api.RESPONSES:
            return [i["output"] for i in request.body["input"] if i.get("type") == "function_call_output"]
        case Api.CHAT:
            return [m["content"] for m in request.body["messages"] if m["role"] == "tool"]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in _texts(item)]
