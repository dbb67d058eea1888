"""aider. It has no tools: it is told the files, the proposal among them, and answers with edits to them, once."""

import re
from collections.abc import Mapping

from ralph.adapters.agents.presets.preset import Api, Preset, Setting
from ralph.adapters.agents.presets.report import Report
from ralph.adapters.agents.proposal import PROPOSAL

CONFIG = "aider.conf.yml"
AMOUNT = r"(\d[\d,]*(?:\.\d+)?[kM]?)"
TOLD = re.compile(rf"^Tokens: {AMOUNT} sent, .*?{AMOUNT} received\.(?:.*\$(\d+(?:\.\d+)?) session)?", re.MULTILINE)
UNITS = {"k": 1_000, "M": 1_000_000}


def argv(setting: Setting) -> tuple[str, ...]:
    """Without git, since commits of its own would be refused, and without any file of its own in the worktree."""
    prefix = "anthropic" if setting.api is Api.MESSAGES else "openai"
    return (
        "--model", f"{prefix}/{setting.model}", "--yes-always", "--message-file", str(setting.brief),
        "--no-git", "--no-auto-commits", "--no-auto-lint", "--no-suggest-shell-commands", "--no-detect-urls",
        "--no-check-update", "--no-show-release-notes", "--no-show-model-warnings", "--analytics-disable",
        "--no-stream", "--no-pretty", "--no-fancy-input", "--disable-playwright", "--map-tokens", "0",
        "--config", str(setting.home / CONFIG), "--env-file", "/dev/null", *setting.files, PROPOSAL,
    )  # fmt: skip


def home(_setting: Setting) -> Mapping[str, str]:
    """A configuration that says little, instead of one that may lie in the repository; an empty one is an error."""
    return {CONFIG: "analytics: false\n"}


def env(setting: Setting) -> Mapping[str, str]:
    """The address and the dummy key; its histories go where its HOME goes."""
    own = {
        f"AIDER_{name}_HISTORY_FILE": str(setting.home / f"{name.lower()}-history") for name in ("CHAT", "INPUT", "LLM")
    }
    if setting.api is Api.MESSAGES:
        gateway = {"ANTHROPIC_API_KEY": setting.key, "ANTHROPIC_API_BASE": setting.url}
    else:
        gateway = {"OPENAI_API_KEY": setting.key, "OPENAI_API_BASE": f"{setting.url}/v1"}
    return own | gateway | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def read(text: str) -> Report:
    """One line a message; the cost is that of all so far."""
    told = TOLD.findall(text)
    tokens = sum(_whole(sent) + _whole(received) for sent, received, _ in told)
    return Report(tokens=tokens, usd=float(told[-1][2] or 0) if told else 0.0, calls=len(told))


def _whole(text: str) -> int:
    return int(float(text.rstrip("kM").replace(",", "")) * UNITS.get(text[-1], 1))


PRESET = Preset(
    program="aider",
    install="pipx install aider-chat",
    argv=argv,
    env=env,
    home=home,
    read=read,
    needs_model=True,
)
