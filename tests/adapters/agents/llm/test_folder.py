"""A model sees its own folder and writes what is editable in it, and nothing else."""

import os
from pathlib import Path

import pytest

from ralph.adapters.agents.llm.folder import Folder, ToolError, glob_regex
from tests.conftest import git


@pytest.fixture
def folder(hostile: Path) -> Folder:
    root = hostile / "tree"
    (root / "models").mkdir(parents=True)
    (root / ".ralph").mkdir()
    (root / ".git").write_text("gitdir: elsewhere\n")
    (root / "train.py").write_text("A = 1\n")
    (root / "prepare.py").write_text("B = 1\n")
    (root / "models" / "net.py").write_text("C = 1\n")
    (hostile / "secret.txt").write_text("secret\n")
    made = Folder(root=root, editable=("train.py", "models/**"))
    made.remember()
    return made


@pytest.mark.parametrize(
    "name",
    ["../secret.txt", "models/../../secret.txt", "/etc/passwd", "a\0b", ".git", "./.git", ".ralph/proposal.json"],
)
def test_names_that_lead_out_or_into_what_is_closed_are_refused(folder: Folder, name: str) -> None:
    for attempt in (folder.read, folder.listing, lambda n: folder.write(n, "x")):
        with pytest.raises(ToolError):
            attempt(name)


def test_absolute_names_are_refused_even_of_files_inside(folder: Folder) -> None:
    with pytest.raises(ToolError, match="leads out"):
        folder.read(str(folder.root / "train.py"))


@pytest.mark.parametrize("target", ["../secret.txt", "train.py"])
def test_symbolic_links_are_not_followed(folder: Folder, target: str) -> None:
    (folder.root / "models" / "link.py").symlink_to(folder.root / target)
    for attempt in (folder.read, lambda n: folder.write(n, "x")):
        with pytest.raises(ToolError, match="symbolic link"):
            attempt("models/link.py")
    assert (folder.root.parent / "secret.txt").read_text() == "secret\n"


def test_folders_behind_symbolic_links_are_not_entered(folder: Folder) -> None:
    (folder.root / "models" / "out").symlink_to(folder.root.parent)
    for name in ("models/out", "models/out/secret.txt"):
        with pytest.raises(ToolError, match="symbolic link"):
            folder.listing(name)
    with pytest.raises(ToolError, match="symbolic link"):
        folder.write("models/out/new.txt", "x")


def test_pipes_and_giants_are_not_read(folder: Folder) -> None:
    os.mkfifo(folder.root / "pipe")
    with (folder.root / "giant").open("wb") as file:
        file.truncate(2_000_000)
    with pytest.raises(ToolError, match="not a regular file"):
        folder.read("pipe")
    with pytest.raises(ToolError, match="2,000,000 bytes"):
        folder.read("giant")


@pytest.mark.parametrize("name", ["prepare.py", "new.py", "train.py.bak", "models", ".ralph/ended.json"])
def test_only_what_is_editable_is_written(folder: Folder, name: str) -> None:
    with pytest.raises(ToolError):
        folder.write(name, "x = 1\n")
    assert folder.changed() == {}


def test_editable_files_are_written_and_made_and_known_as_changed(folder: Folder) -> None:
    (folder.root / "train.py").chmod(0o755)
    folder.write("./train.py", "A = 2\n")
    folder.write("models/deep/er.py", "D = 1\n")
    assert folder.changed() == {"models/deep/er.py": "D = 1\n", "train.py": "A = 2\n"}
    assert (folder.root / "train.py").stat().st_mode & 0o777 == 0o755
    folder.write("train.py", "A = 1\n")
    assert set(folder.changed()) == {"models/deep/er.py"}


def test_a_name_that_looks_like_a_glob_is_editable_by_itself(folder: Folder) -> None:
    odd = Folder(root=folder.root, editable=("net[1].py",))
    odd.write("net[1].py", "X = 1\n")
    assert set(odd.changed()) == {"net[1].py"}


def test_a_listing_marks_what_may_be_edited_and_hides_what_is_closed(folder: Folder) -> None:
    assert folder.listing(".") == ["models/", "prepare.py", "train.py  (editable)"]
    assert folder.listing("models") == ["models/net.py  (editable)"]


def test_a_name_that_is_not_there_is_answered_with_those_that_are(folder: Folder) -> None:
    with pytest.raises(ToolError, match=r"there are: models, prepare.py, train.py"):
        folder.read("trian.py")


GLOBS = [
    "train.py",
    "*.py",
    "**/*.py",
    "src/**",
    "src",
    "src/*/x.py",
    "a?c",
    "[ab]*.py",
    "[!a]*.py",
    "src/**/x.py",
    "**",
]


def test_globs_mean_what_they_mean_to_git(repository: Path) -> None:
    names = [
        "train.py",
        "a.py",
        "b.py",
        "abc",
        "src/x.py",
        "src/deep/x.py",
        "src/deep/er/x.py",
        "src/y.txt",
        "srcs/z.py",
    ]
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("")
    git(repository, "add", ".")
    everything = git(repository, "ls-files").splitlines()
    for glob in GLOBS:
        theirs = set(git(repository, "ls-files", "--", f":(top,glob){glob}").splitlines())
        assert {name for name in everything if glob_regex(glob).fullmatch(name)} == theirs, glob
