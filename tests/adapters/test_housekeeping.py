"""Refs in one file and objects in packs, without a word lost."""

import os
import time
from pathlib import Path

import pytest

from ralph.adapters import housekeeping
from ralph.adapters.git import GitRepo, branch_ref, experiment_ref
from tests.conftest import git

CAMPAIGN = "nov23"


@pytest.fixture
def repo(repository: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepo:
    monkeypatch.setattr(housekeeping, "EVERY", 4)
    made = GitRepo(repository, repository / "state" / "trees", ["train.py"])
    (repository / "state").mkdir()
    (repository / "state" / ".gitignore").write_text("*\n")
    made.open_campaign(CAMPAIGN, made.head())
    return made


def candidate(repo: GitRepo, id_: int) -> str:
    base, name = repo.head(), f"{id_}-agent"
    (repo.checkout(name, base) / "train.py").write_text(f"LEARNING_RATE = 0.{id_}\n")
    commit = repo.commit(repo.examine(name, base), base, f"try 0.{id_}\n", experiment_ref(CAMPAIGN, id_))
    repo.discard(name)
    return commit


def loose(repository: Path) -> list[str]:
    folder = repository / ".git" / "refs" / "ralph" / CAMPAIGN / "experiments"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_refs_are_packed_now_and_then_and_none_is_lost(repo: GitRepo, repository: Path) -> None:
    commits = {n: candidate(repo, n) for n in range(1, 7)}
    assert loose(repository) == ["5", "6"]
    assert {n: git(repository, "rev-parse", experiment_ref(CAMPAIGN, n)) for n in commits} == commits
    assert repo.pinned(CAMPAIGN) == set(commits)
    assert git(repository, "rev-parse", branch_ref(CAMPAIGN)) == repo.head()
    assert git(repository, "fsck", "--connectivity-only") == ""


def test_a_branch_that_is_packed_still_moves_by_compare_and_set(repo: GitRepo, repository: Path) -> None:
    commits = [candidate(repo, n) for n in range(1, 5)]
    repo.advance(CAMPAIGN, repo.head(), commits[2])
    assert git(repository, "rev-parse", branch_ref(CAMPAIGN)) == commits[2]


def test_what_became_loose_before_a_restart_is_packed_at_the_next(repo: GitRepo, repository: Path) -> None:
    for n in range(1, 4):
        candidate(repo, n)
    for n in range(4, 9):
        repo.pin(experiment_ref(CAMPAIGN, n), repo.head())
    assert len(loose(repository)) == 8
    GitRepo(repository, repository / "state" / "trees", ["train.py"]).open_campaign(CAMPAIGN, repo.head())
    assert loose(repository) == []


def test_a_lock_of_the_users_makes_it_wait_for_the_next_time(repo: GitRepo, repository: Path) -> None:
    lock = repository / ".git" / "packed-refs.lock"
    lock.touch()
    git(repository, "config", "core.packedRefsTimeout", "0")
    for n in range(1, 5):
        candidate(repo, n)
    assert len(loose(repository)) == 4
    assert lock.exists()
    lock.unlink()
    for n in range(5, 9):
        candidate(repo, n)
    assert loose(repository) == []


@pytest.mark.parametrize("name", ["packed-refs.lock", "objects/maintenance.lock"])
def test_a_lock_goes_only_when_it_is_a_day_old(repo: GitRepo, repository: Path, name: str) -> None:
    lock = repository / ".git" / name
    lock.touch()
    repo.open_campaign(CAMPAIGN, repo.head())
    assert lock.exists()
    then = time.time() - housekeeping.STALE_S - 60
    os.utime(lock, (then, then))
    repo.open_campaign(CAMPAIGN, repo.head())
    assert not lock.exists()
