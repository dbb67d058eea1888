"""The pages are held to the truth: links, the tree, the commands and the words."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from ralph.adapters.gateway.upstream import USUAL_KEYS, upstream_of
from ralph.config import AgentEntry
from ralph.config import parse as parse_arena
from ralph.core.learnings import parse
from ralph.front.cli import GROUPS, main
from ralph.front.init import TOML

KEYS = tuple(USUAL_KEYS.values())
ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [t for t in targets if "://" not in t]
    assert [t for t in local if not (page.parent / t).exists()] == []


def test_the_readmes_tree_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("## The tree")[1].split("##")[0]
    names = re.findall(r"^    ([A-Za-z.]+/?)  ", tree, re.MULTILINE)
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_command_that_the_readme_shows_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^    (?:\.venv/bin/)?ralph ([a-z]+)", text, re.MULTILINE))
    assert {"status", "log", "show", "note", "adopt", "check", "init", "loop"} <= shown
    assert shown <= set(main.commands)


def test_help_names_every_command_in_its_group() -> None:
    out = CliRunner().invoke(main, ["--help"]).output
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(main.commands)
    assert [name for name in grouped if f"\n  {name} " not in out] == []


def test_every_make_target_that_the_pages_name_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {t for page in PAGES for t in re.findall(r"`?make ([a-z]+)`?", page.read_text(encoding="utf-8"))}
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {t for t in named if t in ("loop", "test", "check", "bench", "clean")} <= targets


def test_no_file_is_a_room_too_large_to_live_in() -> None:
    names = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    sizes = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in names}
    assert {name: size for name, size in sizes.items() if size >= 600} == {}
    assert [name for name in names if "utils" in Path(name).stem] == []


def test_what_init_writes_uses_known_keys_only() -> None:
    keys = set(re.findall(r"^([a-z_]+) =", TOML, re.MULTILINE))
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [key for key in keys if f".{key}`" not in page] == []


def test_the_repositorys_own_learnings_page_is_an_untouched_one() -> None:
    """Its furniture must not reach briefs as if it were the human's guidance."""
    assert parse((ROOT / "learnings.md").read_text(encoding="utf-8")).human == ()


def _toml_blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["providers.md", "agents.md"])
def test_every_arena_that_a_page_shows_can_be_used_as_it_stands(page: str) -> None:
    blocks = _toml_blocks(page)
    assert blocks
    for block in blocks:
        config = parse_arena(tomllib.loads(block))
        for name in config.agent.mix or ({config.agent.use: 1.0} if "[agent]" in block else {}):
            entry = config.agent_entry(name)
            assert name == "tuner" or upstream_of(name, entry, dict.fromkeys(KEYS, "k")).key == "k"


def test_every_preset_and_kind_has_its_screen() -> None:
    text = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    for preset in get_args(AgentEntry.model_fields["preset"].annotation):
        assert preset in text
    assert all(variable in text for variable in KEYS)
