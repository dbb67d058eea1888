"""pi, `pi --print`. As text: its JSON lines repeat the whole message with every piece of it, 240 MB for 30 kB."""

import json
from collections.abc import Mapping
from typing import Any

from ralph.adapters.agents.presets.preset import Api, Preset, Setting
from ralph.adapters.agents.presets.report import Report

NAMES = {Api.MESSAGES: "anthropic-messages", Api.RESPONSES: "openai-responses", Api.CHAT: "openai-completions"}
FREE = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}  # the gateway knows the price


def argv(setting: Setting) -> tuple[str, ...]:
    """The brief is on standard input."""
    provider = ("--provider", "ralph") if setting.url else ()
    model = ("--model", setting.model) if setting.model else ()
    return (
        "--print", "--no-session", "--no-extensions", "--no-skills", "--no-prompt-templates", "--no-themes",
        "--no-context-files", "--offline", *provider, *model,
    )  # fmt: skip


def env(setting: Setting) -> Mapping[str, str]:
    """Offline is about updates and telemetry, not about the model."""
    return {"PI_CODING_AGENT_DIR": str(setting.home / ".pi" / "agent"), "PI_OFFLINE": "1", "PI_TELEMETRY": "0"}


def home(setting: Setting) -> Mapping[str, str]:
    """The gateway as a provider of one model."""
    if not setting.url:
        return {}
    model = {
        "id": setting.model,
        "name": setting.model,
        "reasoning": False,
        "input": ["text"],
        "cost": FREE,
        "contextWindow": 200_000,
        "maxTokens": 16_384,
    }
    provider: dict[str, Any] = {
        "baseUrl": setting.url if setting.api is Api.MESSAGES else f"{setting.url}/v1",
        "api": NAMES[setting.api],
        "apiKey": setting.key,
        "models": [model],
    }
    return {".pi/agent/models.json": json.dumps({"providers": {"ralph": provider}})}


def read(text: str) -> Report:
    """Its output is the last message and nothing else; figures come from the gateway."""
    return Report(message=text.strip()[-2_000:])


PRESET = Preset(
    program="pi",
    install="npm install -g @earendil-works/pi-coding-agent",
    argv=argv,
    env=env,
    home=home,
    read=read,
    needs_model=True,
    logins=(".pi/agent/auth.json",),
    login_folder="PI_CODING_AGENT_DIR",
    log_in="run `pi` and /login",
)
