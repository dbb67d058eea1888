"""A worktree is known by what git says of it, whatever another one of the same name is called."""

from pathlib import Path

import pytest

from ralph.adapters.git import GitRepo
from ralph.adapters.worktrees import admin_folder
from ralph.errors import RefusedError
from tests.conftest import git


def test_a_worktree_of_somebody_elses_with_the_same_name_is_not_mistaken_for_ours(repository: Path) -> None:
    git(repository, "worktree", "add", "-q", "--detach", str(repository.parent / "theirs" / "1-agent"))
    git(repository.parent / "theirs" / "1-agent", "commit", "-q", "--allow-empty", "-m", "theirs")
    repo = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    tree = repo.checkout("1-agent", repo.head())
    (tree / "train.py").write_text("LEARNING_RATE = 0.2\n")
    assert repo.examine("1-agent", repo.head()).files == ("train.py",)
    ours = admin_folder(repository / ".git", tree)
    assert ours is not None
    assert ours.name != "1-agent"
    repo.discard("1-agent")
    assert admin_folder(repository / ".git", tree) is None
    assert "theirs/1-agent" in git(repository, "worktree", "list")


def test_an_agent_that_commits_is_found_out_under_any_name(repository: Path) -> None:
    git(repository, "worktree", "add", "-q", "--detach", str(repository.parent / "theirs" / "1-agent"))
    repo = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    tree = repo.checkout("1-agent", repo.head())
    (tree / "train.py").write_text("LEARNING_RATE = 0.2\n")
    git(tree, "commit", "-q", "-am", "mine")
    with pytest.raises(RefusedError, match="committed"):
        repo.examine("1-agent", repo.head())


def test_git_takes_a_worktree_made_by_hand_for_its_own(repository: Path) -> None:
    (repository / "notes.txt").write_text("fixed\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "more")
    repo = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    tree = repo.checkout("1-agent", repo.head())
    assert git(tree, "rev-parse", "HEAD") == repo.head()
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "rev-parse", "--show-toplevel") == str(tree)
    assert str(tree) in git(repository, "worktree", "list")
    git(repository, "worktree", "prune", "--expire=now")
    git(repository, "fsck", "--strict")
    (tree / "train.py").write_text("LEARNING_RATE = 0.2\n")
    assert git(tree, "diff", "--name-only") == "train.py"


def test_discarding_ours_forgets_no_worktree_of_the_users_whose_disk_is_away(repository: Path) -> None:
    theirs = repository.parent / "theirs"
    git(repository, "worktree", "add", "-q", "--detach", str(theirs))
    theirs.rename(repository.parent / "unmounted")
    repo = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    repo.checkout("1-agent", repo.head())
    repo.discard("1-agent")
    (repository.parent / "unmounted").rename(theirs)
    assert git(theirs, "rev-parse", "HEAD") == repo.head()


def test_the_last_worktree_leaves_nothing_in_the_repository(repository: Path) -> None:
    repo = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    repo.checkout("1-agent", repo.head())
    repo.discard("1-agent")
    repo.discard("1-agent")
    assert not (repository / ".git" / "worktrees").exists()
    assert list((repository / "state" / "trees").iterdir()) == []


def test_a_commit_may_be_named_as_git_names_it(repository: Path) -> None:
    repo = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    tree = repo.checkout("1-agent", "main")
    assert git(tree, "rev-parse", "HEAD") == repo.head()
    (tree / "train.py").write_text("LEARNING_RATE = 0.2\n")
    assert repo.examine("1-agent", repo.head()).files == ("train.py",)
