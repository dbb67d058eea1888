"""`ralph init`: an arena around any command that reports a number, in any git repository."""

import json
from pathlib import Path

from ralph.adapters.git import GitRepo
from ralph.errors import ConfigError
from ralph.layout import Layout

PROGRAM = """\
# What to pursue

Improve `{metric}` ({direction}). One change at a time, for one reason.

You may edit: {editable}. A run is `{command}`; it has {budget_s:g} seconds.

Write here what you know: what has been tried, what looks promising, what to leave alone.
"""

TOML = """\
# What ralph optimises here, and under which conditions two scores may be compared.
# Every key is described in ralph's docs/configuration.md; what is not written has a default.

[arena]
name = {name}
metric = {metric}
direction = {direction}
editable = {editable}

[run]
command = {command}
budget_s = {budget_s:g}      # seconds; the command is killed when they (and the set-up's) are over
setup_s = {setup_s:g}       # start-up and compilation, on top of the budget
{env}
[score]
mode = "reported"   # the run prints `{bare_metric}: <number>` at its end
# bounds = [low, high]   # what is believable; anything else is a crash

[keep]
false_keep_rate = 0.05
max_runs = 3

[agent]
use = "tuner"       # tunes module-level constants; any program: kind = "command" under [agents.NAME]
"""


def make_arena(
    target: Path, *, run_command: str, metric: str, editable: tuple[str, ...], direction: str, budget_s: float
) -> list[str]:
    """Write arena.toml and what goes with it into `target`; the lines to show to the user.

    Nothing that exists is overwritten and nothing is committed. `state/` ignores itself.

    Raises:
        ConfigError: no repository, an arena that is there already, or no file to edit.
    """
    root = target.resolve()
    layout = Layout(root=root, arena=root)
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}")
    if layout.arena_toml.exists():
        raise ConfigError(f"{layout.arena_toml} is there already; edit it, or remove it first")
    repo = GitRepo(root, layout.trees, editable)
    if not repo.files(repo.head()):
        raise ConfigError(
            f"no committed file matches {', '.join(editable)}; commit what agents may edit, then try again"
        )
    made = [layout.arena_toml]
    layout.arena_toml.write_text(
        TOML.format(
            name=json.dumps(_name(root)),
            metric=json.dumps(metric),
            bare_metric=metric,
            direction=json.dumps(direction),
            editable=json.dumps(list(editable)),
            command=json.dumps(run_command, ensure_ascii=False),
            budget_s=budget_s,
            setup_s=300,
            env=_environment(root, run_command),
        ),
        encoding="utf-8",
    )
    if not (root / "program.md").exists():
        text = PROGRAM.format(
            metric=metric,
            direction="lower is better" if direction == "min" else "higher is better",
            editable=", ".join(f"`{glob}`" for glob in editable),
            command=run_command,
            budget_s=budget_s,
        )
        (root / "program.md").write_text(text, encoding="utf-8")
        made.append(root / "program.md")
    layout.state.mkdir(exist_ok=True)
    ignore = layout.state / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")  # it ignores itself, so that your own .gitignore stays as it is
        made.append(ignore)
    return [*(f"made {path.relative_to(root)}" for path in made), "Next: ralph check, then ralph loop"]


def _name(root: Path) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in root.name).strip("-._")
    return kept or "arena"


def _environment(root: Path, command: str) -> str:
    """What a command needs that was made for a user's own HOME: caches, and the environment that uv keeps beside it."""
    entries = {}
    words = command.split()
    if words and words[0] in ("uv", "uvx"):
        entries["UV_PROJECT_ENVIRONMENT"] = str(root / ".venv").replace("$", "$$")
        entries["UV_CACHE_DIR"] = "${HOME}/.cache/uv"
        entries["UV_OFFLINE"] = "1"
    if _uses_home(root):
        entries["HOME"] = "${HOME}"
    if not entries:
        return '# env = { HOME = "${HOME}" }   # a run has a HOME of its own; this gives it yours\n'
    body = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in entries.items())
    return f"env = {{ {body} }}   # a run has a HOME of its own; these give it yours\n"


def _uses_home(root: Path) -> bool:
    """Whether a Python file at the top reads from the user's home, as the ancestor's ~/.cache does."""
    marks = ("expanduser", "Path.home()", "~/.cache", '".cache"')
    texts = (p.read_text(errors="replace") for p in sorted(root.glob("*.py"))[:50])
    return any(mark in text for text in texts for mark in marks)
