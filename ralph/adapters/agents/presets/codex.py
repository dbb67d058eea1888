"""OpenAI Codex, `codex exec`.

It starts its commands in sessions of their own, so only the kill domain ends them. Its own sandbox is off, since it
does not work inside another; ours is around it. CODEX_HOME must not lie below TMPDIR.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from ralph.adapters.agents.presets.preset import Preset, Setting
from ralph.adapters.agents.presets.report import Limit, Report, count, events, part, text_of

# A request without them is 15 kB smaller, and nothing but calls of the model leaves the program.
CONFIG = """\
web_search = "disabled"
project_doc_max_bytes = 0
cli_auth_credentials_store = "file"
check_for_update_on_startup = false

[features]
apps = false
goals = false
image_generation = false
plugins = false
skill_search = false
unbounded_connection_retries = false

[agents]
enabled = false

[skills]
include_instructions = false

[skills.bundled]
enabled = false

[analytics]
enabled = false
"""
PROVIDER = """
[model_providers.ralph]
name = "ralph"
base_url = {url}
env_key = "RALPH_GATEWAY_KEY"
wire_api = "responses"
supports_websockets = false
request_max_retries = 4
stream_max_retries = 4
"""
LIMITED = re.compile(
    r"usage limit|rate limit|quota|at capacity|overloaded|high demand|status:? (429|5\d\d)|stream disconnected",
    re.IGNORECASE,
)
RESUME = re.compile(
    r"try again at (?:(?P<day>[A-Z][a-z]{2} \d{1,2})(?:st|nd|rd|th), (?P<year>\d{4}) )?(?P<hour>\d{1,2}:\d\d [AP]M)"
)


def argv(setting: Setting) -> tuple[str, ...]:
    """The brief is on standard input, which the dash stands for."""
    model = ("--model", setting.model) if setting.model else ()
    return (
        "exec", "--json", "--ephemeral", "--skip-git-repo-check", "--ignore-rules",
        "--dangerously-bypass-approvals-and-sandbox", *model, "-",
    )  # fmt: skip


def env(setting: Setting) -> Mapping[str, str]:
    """The key comes from RALPH_GATEWAY_KEY, which every agent has."""
    return {"CODEX_HOME": str(setting.home / ".codex")}


def home(setting: Setting) -> Mapping[str, str]:
    """The whole configuration, in its fresh CODEX_HOME."""
    if not setting.url:
        return {".codex/config.toml": CONFIG}
    provider = PROVIDER.format(url=json.dumps(f"{setting.url}/v1"))
    return {".codex/config.toml": f'model_provider = "ralph"\n{CONFIG}{provider}'}


def read(text: str, now: datetime | None = None) -> Report:
    """`error` events are words only; they count when the turn failed, or when nothing came after them."""
    tokens = calls = 0
    error = message = ""
    for event in events(text):
        match event.get("type"):
            case "turn.completed":
                tokens += count(part(event, "usage"), "input_tokens", "output_tokens")
                error = ""
            case "error":
                error = text_of(event, "message")
            case "turn.failed":
                error = text_of(part(event, "error"), "message") or error or "the turn failed"
            case "item.started":
                error = ""
            case "item.completed":
                item = part(event, "item")
                if item.get("type") == "agent_message":
                    message, error = text_of(item, "text"), ""
    return Report(tokens=tokens, calls=calls, limit=_limit(error, now), error=error, message=message)


def _limit(error: str, now: datetime | None) -> Limit | None:
    if not LIMITED.search(error):
        return None
    return Limit(words=" ".join(error.split())[:200], resume_at=_resume_at(error, now or datetime.now().astimezone()))


def _resume_at(error: str, now: datetime) -> datetime | None:
    """The time it names is local, to the minute, with a date unless it is today."""
    found = RESUME.search(error)
    if found is None:
        return None
    try:
        hour = datetime.strptime(found["hour"], "%I:%M %p").replace(tzinfo=now.tzinfo).timetz()
        if found["day"] is not None:
            day = datetime.strptime(f"{found['day']} {found['year']}", "%b %d %Y").replace(tzinfo=now.tzinfo).date()
            return datetime.combine(day, hour).astimezone(UTC)
    except ValueError:
        return None
    return datetime.combine(now.date(), hour).astimezone(UTC)


PRESET = Preset(
    program="codex",
    install="npm install -g @openai/codex",
    argv=argv,
    env=env,
    home=home,
    read=read,
    logins=(".codex/auth.json",),
    login_folder="CODEX_HOME",
    log_in='run `codex login` (with cli_auth_credentials_store = "file" in its config.toml where it uses a keyring)',
)
