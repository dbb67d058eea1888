"""Claude Code, `claude -p`.

As root it refuses --dangerously-skip-permissions; accepted edits and a list of allowed tools need no such leave. --bare
reads no CLAUDE.md, settings, hooks, plugins or memory, but no login either; with one, --safe-mode does the same.
"""

from collections.abc import Mapping
from typing import Any

from ralph.adapters.agents.presets.preset import Preset, Setting, nothing
from ralph.adapters.agents.presets.report import (
    Limit,
    Report,
    count,
    events,
    moment,
    number,
    outage,
    part,
    text_of,
)

TOOLS = "Bash,Edit,Read,Write,Glob,Grep"
WEATHER = ("rate_limit", "overloaded", "server_error")  # the last also when it could not connect
SYNTHETIC = "<synthetic>"  # its own words in place of the model's, when a call failed
READ_AND_WRITTEN = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def argv(setting: Setting) -> tuple[str, ...]:
    """The brief is on standard input."""
    context = ("--bare",) if setting.url else ("--safe-mode", "--setting-sources", "")
    model = ("--model", setting.model) if setting.model else ()
    return (
        "-p", *context, "--strict-mcp-config", "--disable-slash-commands", "--no-session-persistence",
        "--permission-mode", "acceptEdits", "--tools", TOOLS, "--allowedTools", TOOLS,
        "--output-format", "stream-json", "--verbose", *model,
    )  # fmt: skip


def env(setting: Setting) -> Mapping[str, str]:
    """Nothing but calls of the model leaves it; a shell command of its own is waited for, never left behind."""
    quiet = {
        "CLAUDE_CONFIG_DIR": str(setting.home / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_GIT_INSTRUCTIONS": "1",  # the state of the worktree would spoil the provider's cache
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # so would a line that differs with every start
        "CLAUDE_CODE_MAX_RETRIES": "6",  # about 40 s; its own 10 are three minutes, and the supervisor waits better
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
    }
    gateway = {"ANTHROPIC_BASE_URL": setting.url, "ANTHROPIC_API_KEY": setting.key} if setting.url else {}
    return quiet | gateway


def read(text: str) -> Report:
    """The figures of its `result`; before there is one, those of the messages so far, a lower bound."""
    limit: Limit | None = None
    message, kind, seen, result = "", "", {}, None
    for event in events(text):
        match event.get("type"):
            case "rate_limit_event":
                limit = _limit(part(event, "rate_limit_info"))
            case "assistant" if not event.get("parent_tool_use_id"):
                said, kind = part(event, "message"), text_of(event, "error")
                message = (_words(said) if said.get("model") != SYNTHETIC else "") or message
                seen[text_of(said, "id")] = count(part(said, "usage"), *READ_AND_WRITTEN)
            case "result":
                result = event
    if result is None:
        return Report(tokens=sum(seen.values()), calls=len(seen), limit=limit, message=message)
    error = text_of(result, "result") or text_of(result, "subtype") if result.get("is_error") else ""
    return Report(
        tokens=count(part(result, "usage"), *READ_AND_WRITTEN),
        usd=number(result, "total_cost_usd"),
        calls=count(result, "num_turns"),
        limit=limit or (_outage(kind, number(result, "api_error_status"), error) if error else None),
        error=error,
        message=message,
    )


def _limit(info: Mapping[str, Any]) -> Limit | None:
    """Only `rejected` stops it; `allowed` and `allowed_warning` are news about how much is left."""
    if info.get("status") != "rejected":
        return None
    kind = text_of(info, "rateLimitType").replace("_", " ")
    return Limit(words=f"usage limit reached{f' ({kind})' if kind else ''}", resume_at=moment(number(info, "resetsAt")))


def _outage(kind: str, status: float, error: str) -> Limit | None:
    return Limit(words=error[:200]) if kind in WEATHER else outage(status, error[:200])


def _words(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    return "\n".join(text_of(block, "text") for block in blocks if block.get("type") == "text")


PRESET = Preset(
    program="claude",
    install="npm install -g @anthropic-ai/claude-code",
    argv=argv,
    env=env,
    home=nothing,
    read=read,
    logins=(".claude/.credentials.json",),
    login_folder="CLAUDE_CONFIG_DIR",
    login_token="CLAUDE_CODE_OAUTH_TOKEN",
    log_in="run `claude` and /login, or put what `claude setup-token` prints into CLAUDE_CODE_OAUTH_TOKEN",
)
