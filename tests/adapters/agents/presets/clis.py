"""The real CLIs, where they are installed, and the provider's side of a conversation with any of them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.arenas import TRAIN
from tests.provider import Reply, Request, ToolCall, Usage

FOLDER_VARIABLE = "RALPH_CLI_BIN"
EDIT = "sed -i 's/^LEARNING_RATE = .*/LEARNING_RATE = {rate}/' train.py"
PROPOSE = """printf '{{"hypothesis": "rate {rate}", "expected": "%s"}}' "$!" > .ralph/proposal.json"""
COMMAND = "(setsid sleep 271 >/dev/null 2>&1 </dev/null & {propose}); {edit}; echo {marker}"
WHOLE_FILES = """{marker} is here.

train.py
```
{train}```

.ralph/proposal.json
```
{{"hypothesis": "rate {rate}"}}
```
"""


def cli(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The program's path, with its folder in PATH; the test is skipped where it is not installed."""
    folder = os.environ.get(FOLDER_VARIABLE, "")
    path = os.pathsep.join([*([folder] if folder else []), os.environ["PATH"]])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed; name the folder it is in with {FOLDER_VARIABLE}")
    monkeypatch.setenv("PATH", path)
    return found


class Model:
    """A model that has one command run, which edits, proposes and leaves a process behind, and then says it is done.

    Its first answer in the conversation of experiment n has the marker of n in it, and so has what the command prints.
    """

    def __init__(self) -> None:
        self.conversations = 0

    def __call__(self, request: Request) -> Reply:
        usage = Usage(1000, 50)
        if b"marker-of-" in request.raw:
            return Reply(text="All done.", usage=usage)
        self.conversations += 1
        number = self.conversations
        call = shell_call(request, command(number))
        if call is None:
            train = TRAIN.replace("LEARNING_RATE = 0.5", f"LEARNING_RATE = {rate(number)}")
            told = WHOLE_FILES.format(marker=f"marker-of-{number}", train=train, rate=rate(number))
            return Reply(text=told, usage=usage)
        return Reply(text=f"marker-of-{number}", tools=(call,), usage=usage)


def rate(number: int) -> float:
    """The learning rate that experiment `number` sets."""
    return round(0.5 - 0.05 * number, 3)


def command(number: int) -> str:
    """What the model has run."""
    propose = PROPOSE.format(rate=rate(number))
    return COMMAND.format(propose=propose, edit=EDIT.format(rate=rate(number)), marker=f"marker-of-{number}")


def shell_call(request: Request, line: str) -> ToolCall | None:
    """A call of whichever of the request's tools runs commands; None for a CLI without tools."""
    for tool in request.body.get("tools", ()):
        name = str(tool.get("name") or tool.get("function", {}).get("name", ""))
        match name:
            case "Bash" | "bash" | "run_shell_command":
                return ToolCall(name, {"command": line, "description": "change one thing"})
            case "exec_command":
                return ToolCall(name, {"cmd": line})
            case "shell":
                return ToolCall(name, {"command": ["bash", "-c", line]})
    return None


def seed_home(home: Path) -> None:
    """A user's home full of settings, instructions and memories that no agent may take notice of."""
    files: dict[str, Any] = {
        ".claude/CLAUDE.md": "planted-by-user",
        ".claude/settings.json": json.dumps(
            {"model": "planted-by-user", "env": {"ANTHROPIC_MODEL": "planted-by-user"}}
        ),
        ".claude.json": "{}",
        ".codex/AGENTS.md": "planted-by-user",
        ".codex/config.toml": 'model = "planted-by-user"\n',
        ".gemini/GEMINI.md": "planted-by-user",
        ".config/opencode/AGENTS.md": "planted-by-user",
        ".pi/agent/AGENTS.md": "planted-by-user",
        ".aider.conf.yml": "model: planted-by-user\n",
    }
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
