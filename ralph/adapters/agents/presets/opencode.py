"""OpenCode, `opencode run`. Its configuration travels in a variable; a file would have it install plugins beside it."""

import json
from collections.abc import Mapping
from typing import Any

from ralph.adapters.agents.presets.preset import Api, Preset, Setting, nothing
from ralph.adapters.agents.presets.report import Report, count, events, number, outage, part, text_of

PACKAGES = {
    Api.MESSAGES: "@ai-sdk/anthropic",
    Api.RESPONSES: "@ai-sdk/openai",
    Api.CHAT: "@ai-sdk/openai-compatible",
}
OFF = (
    "AUTOUPDATE", "CLAUDE_CODE", "DEFAULT_PLUGINS", "EXTERNAL_SKILLS", "LSP_DOWNLOAD", "MODELS_FETCH", "PROJECT_CONFIG",
    "SHARE",
)  # fmt: skip


def argv(setting: Setting) -> tuple[str, ...]:
    """The brief is on standard input. A title of its own would cost one more call of the model."""
    model = f"ralph/{setting.model}" if setting.url else setting.model
    chosen = ("--model", model) if model else ()
    return ("run", "--pure", "--auto", "--format", "json", "--title", "experiment", *chosen)


def env(setting: Setting) -> Mapping[str, str]:
    """Its whole configuration, and no registry to install anything from."""
    config: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "lsp": False,
        "formatter": False,
        "permission": {"*": "allow"},
    }
    if setting.url:
        config |= {"enabled_providers": ["ralph"], "provider": {"ralph": _provider(setting)}}
    switches = {f"OPENCODE_DISABLE_{name}": "1" for name in OFF}
    return switches | {"OPENCODE_CONFIG_CONTENT": json.dumps(config), "npm_config_offline": "true"}


def read(text: str) -> Report:
    """The sum over its steps."""
    tokens = calls = 0
    usd = status = 0.0
    message = error = ""
    for event in events(text):
        piece = part(event, "part")
        match event.get("type"):
            case "step_finish":
                tokens += count(part(piece, "tokens"), "total") or count(part(piece, "tokens"), "input", "output")
                usd += number(piece, "cost")
                calls += 1
            case "text":
                message = text_of(piece, "text")
            case "error":
                told = part(event, "error")
                error = text_of(part(told, "data"), "message") or text_of(told, "name") or "it failed"
                status = number(part(told, "data"), "statusCode")
    return Report(tokens=tokens, usd=usd, calls=calls, limit=outage(status, error), error=error, message=message)


def _provider(setting: Setting) -> dict[str, Any]:
    return {
        "npm": PACKAGES[setting.api],
        "name": "ralph",
        "options": {"baseURL": f"{setting.url}/v1", "apiKey": setting.key},
        "models": {setting.model: {"name": setting.model}},
    }


PRESET = Preset(
    program="opencode",
    install="npm install -g opencode-ai",
    argv=argv,
    env=env,
    home=nothing,
    read=read,
    needs_model=True,
    logins=(".local/share/opencode/auth.json",),
    log_in="run `opencode auth login`",
)
