"""Gemini CLI, `gemini -p`. It speaks the Gemini API, below the gateway's address.

Not covered: a GEMINI.md in the repository, which it reads whatever it is told (names of context files only add up).
"""

import json
from collections.abc import Mapping

from ralph.adapters.agents.presets.preset import Preset, Setting
from ralph.adapters.agents.presets.report import Limit, Report, count, events, part, text_of

LIMITED = ("quota", "resource_exhausted", "429", "503")


def argv(setting: Setting) -> tuple[str, ...]:
    """Standard input, the brief, comes before the words of -p."""
    model = ("--model", setting.model) if setting.model else ()
    return (
        "--skip-trust", "--approval-mode", "yolo", "--output-format", "stream-json", *model,
        "-p", "Do what the brief above says, hand it in, and end.",
    )  # fmt: skip


def env(setting: Setting) -> Mapping[str, str]:
    """The address and the dummy key, unless it has a login."""
    quiet = {"GEMINI_CLI_TRUST_WORKSPACE": "true", "GEMINI_TELEMETRY_ENABLED": "false"}
    gateway = {"GOOGLE_GEMINI_BASE_URL": setting.url, "GEMINI_API_KEY": setting.key} if setting.url else {}
    return quiet | gateway


def home(setting: Setting) -> Mapping[str, str]:
    """Settings: how it authenticates, and nothing sent to anyone else."""
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key" if setting.url else "oauth-personal"}},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "context": {"includeDirectoryTree": False},
    }
    return {".gemini/settings.json": json.dumps(settings)}


def read(text: str) -> Report:
    """The figures of its `result`; the words since the last tool are the last message."""
    message = error = ""
    tokens = 0
    for event in events(text):
        match event.get("type"):
            case "message" if event.get("role") == "assistant":
                message += text_of(event, "content")
            case "tool_use":
                message = ""
            case "result":
                tokens = count(part(event, "stats"), "total_tokens")
                if event.get("status") == "error":
                    told = part(event, "error")
                    error = f"{text_of(told, 'type')} {text_of(told, 'message')}".strip() or "it failed"
    limited = any(word in error.lower() for word in LIMITED)
    return Report(tokens=tokens, limit=Limit(words=error[:200]) if limited else None, error=error, message=message)


PRESET = Preset(
    program="gemini",
    install="npm install -g @google/gemini-cli",
    argv=argv,
    env=env,
    home=home,
    read=read,
    logins=(".gemini/oauth_creds.json", ".gemini/google_accounts.json"),
    log_in="run `gemini` and choose to sign in with Google",
)
