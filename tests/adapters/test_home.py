"""Of the user's home children find the programs, what the arena names, and nothing else."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from ralph.adapters.domains import Domains, Start, read_log
from ralph.adapters.home import homes, named_in, programs_in
from ralph.adapters.process import become_subreaper
from ralph.adapters.sandbox import SandboxLevel, reached
from tests.adapters.keeping import end_of

LEVELS = [
    pytest.param(level, marks=pytest.mark.skipif(reached(level).level is not level, reason=f"no {level} here"))
    for level in (SandboxLevel.BWRAP, SandboxLevel.LANDLOCK)
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a key, a program in ~/.local/bin and one that a link there leads to."""
    top = tmp_path / "a home"
    for name in (".ssh", ".local/bin", ".local/share/tool/versions", ".cargo/bin", "texts"):
        (top / name).mkdir(parents=True)
    (top / ".ssh" / "id_ed25519").write_text("private")
    (top / ".cargo" / "credentials.toml").write_text("private")
    (top / "texts" / "one.txt").write_text("hello")
    (top / ".local" / "share" / "tool" / "versions" / "1.0").write_text("#!/bin/sh\necho ran\n")
    (top / ".local" / "share" / "tool" / "versions" / "1.0").chmod(0o755)
    (top / ".local" / "bin" / "tool").symlink_to("../share/tool/versions/1.0")
    return top


def test_programs_are_seen_with_what_links_to_them_lead_to(home: Path) -> None:
    seen = programs_in(home, f"/usr/bin:{home}/.local/bin:{home}/.cargo/bin:{home}/missing")
    wanted = {home / ".local/bin", home / ".local/share/tool/versions", home / ".cargo/bin"}
    assert set(seen) == wanted


def test_interpreters_that_environments_refer_to_are_seen_whatever_the_path_says(home: Path) -> None:
    (home / ".pyenv").mkdir()
    assert programs_in(home, "") == (home / ".pyenv",)


def test_a_home_on_the_path_is_not_shown_for_that(home: Path) -> None:
    assert programs_in(home, str(home)) == ()


def test_neighbours_of_a_folder_of_programs_are_seen_with_it(home: Path) -> None:
    for name in ("node/bin", "node/lib", "node/etc"):
        (home / name).mkdir(parents=True)
    assert programs_in(home, f"{home}/node/bin") == (home / "node/bin", home / "node/lib")


def test_a_program_of_npm_is_seen_with_all_that_was_installed_beside_it(home: Path) -> None:
    modules = home / "work" / "node_modules"
    (modules / ".bin").mkdir(parents=True)
    (modules / "tool" / "node_modules" / "inner" / "bin").mkdir(parents=True)
    (modules / "tool" / "node_modules" / "inner" / "bin" / "tool.js").write_text("")
    (modules / ".bin" / "tool").symlink_to("../tool/node_modules/inner/bin/tool.js")
    assert programs_in(home, str(modules / ".bin")) == (modules, modules / ".bin")


def test_a_home_is_known_by_its_variable_and_by_the_list_of_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    listed = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert set(homes()) == {home, *([listed] if listed.is_dir() else [])}


def test_a_home_that_is_the_root_of_everything_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert Path("/") not in homes()


def test_what_the_arena_names_in_its_environment_is_seen(home: Path) -> None:
    values = [str(home / "texts"), str(home), "/usr", "4", str(home / "missing")]
    assert named_in(home, values) == (home / "texts", home)


@pytest.mark.parametrize("level", LEVELS)
def test_a_child_runs_programs_of_the_home_and_reads_nothing_else_there(
    level: SandboxLevel, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_subreaper()
    monkeypatch.setenv("HOME", str(home))
    path = f"{home}/.local/bin:/usr/bin:/bin"
    domains = Domains(level, visible=(tmp_path, *programs_in(home, path)), hidden=(home,))
    script = f"""
import pathlib, subprocess
print(subprocess.run([{str(home / ".local/bin/tool")!r}], capture_output=True, text=True).stdout.strip())
for name in (".ssh/id_ed25519", ".cargo/credentials.toml", "texts/one.txt"):
    try:
        print(pathlib.Path({str(home)!r}, name).read_text())
    except OSError as error:
        print(type(error).__name__)
"""
    folder = domains.fresh(tmp_path / "domain")
    texts = {"TEXTS": str(home / "texts")}
    child = domains.start(Start(folder=folder, argv=(sys.executable, "-c", script), cwd=tmp_path, arena_env=texts))
    assert end_of(child).ok, read_log(folder)
    refused = "FileNotFoundError" if level is SandboxLevel.BWRAP else "PermissionError"
    assert read_log(folder).split() == ["ran", refused, refused, "hello"]
