"""What the user does in the repository while a loop is at work, and what others left in it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ralph.events import Judged, SupervisorStopped
from ralph.model import Verdict
from tests.arenas import TRAIN, ToyArena, edit, story, toy_arena
from tests.conftest import git

Left = Callable[[], list[int]]
STEPS = [edit("LEARNING_RATE", 0.3), edit("WIDTH", 4), edit("LEARNING_RATE", 0.2), edit("WIDTH", 16)]
N = len(STEPS)
SLOW = TRAIN.replace("score =", "import time; time.sleep(0.5)\nscore =")


@contextlib.contextmanager
def looping(arena: ToyArena) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        arena.argv("loop", "--max-experiments", str(N)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def verdicts(arena: ToyArena) -> list[Verdict]:
    return [event.verdict for event in arena.events() if isinstance(event, Judged)]


def wait_for_run(arena: ToyArena, runs: int = 1) -> None:
    deadline = time.monotonic() + 60
    while len(arena.nonces()) < runs and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(arena.nonces()) >= runs, "no run has begun"


@pytest.mark.slow
def test_a_user_who_works_packs_and_prunes_meanwhile_changes_no_verdict_and_loses_nothing(
    hostile: Path, marked: Left
) -> None:
    """Not covered: `git gc --prune=now`, which takes from any git at work what nobody refers to yet (see its page)."""
    plain = toy_arena(hostile / "plain", STEPS, train=SLOW)
    assert plain.loop(N).status == 0
    arena = toy_arena(hostile / "arena", STEPS, train=SLOW)
    root, rounds = arena.root, 0
    with looping(arena) as process:
        while process.poll() is None:
            rounds += 1
            (root / "mine.txt").write_text(f"{rounds}\n")
            git(root, "add", "mine.txt")
            git(root, "commit", "-q", "-m", f"mine {rounds}")
            git(root, "status", "--porcelain")
            collected = subprocess.run(
                ["git", "gc", "-q", "--prune=2.weeks.ago"], cwd=root, capture_output=True, text=True
            )
            assert collected.returncode == 0, collected.stderr
            git(root, "worktree", "prune")
            git(root, "pack-refs", "--all", "--prune")
        assert process.returncode == 0, arena.json("status")["reason"]
    assert story(arena.events()) == story(plain.events())
    assert int(git(root, "rev-list", "--count", "main")) == rounds + 1, "every commit of the user's is there"
    assert git(root, "show", "main:mine.txt") == str(rounds)
    git(root, "fsck", "--no-dangling")
    for number in range(N + 1):
        git(root, "cat-file", "-e", f"refs/ralph/{arena.json('status')['campaign']}/experiments/{number}^{{tree}}")


def test_locks_that_a_dead_git_left_stop_nothing_and_stay_the_users(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS)
    locks = [arena.root / ".git" / name for name in ("index.lock", "HEAD.lock", "config.lock")]
    for lock in locks:
        lock.write_text("")
    assert arena.loop(N).status == 0
    assert all(lock.exists() for lock in locks), "they may belong to a git that lives"


@pytest.mark.slow
def test_a_branch_that_the_user_moves_by_force_parks_the_loop_with_what_to_type(tmp_path: Path, marked: Left) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS, train=SLOW)
    with looping(arena) as process:
        wait_for_run(arena)
        campaign = arena.json("status")["campaign"]
        other = git(arena.root, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "other")
        git(arena.root, "branch", "-f", f"ralph/{campaign}", other)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert f"git branch -f ralph/{campaign}" in arena.json("status")["reason"]
    assert git(arena.root, "rev-parse", f"ralph/{campaign}") == other, "it is the user's to say"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["trees", "a tree's admin"])
def test_a_worktree_that_is_removed_meanwhile_costs_its_experiment_at_most(
    tmp_path: Path, what: str, marked: Left
) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS, train=SLOW)
    with looping(arena) as process:
        wait_for_run(arena, 3)
        place = arena.root / "state" / "trees" if what == "trees" else arena.root / ".git" / "worktrees"
        for path in place.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert len(verdicts(arena)) == N + 1
    assert not [event for event in arena.events() if isinstance(event, SupervisorStopped) and "bug" in event.reason]


@pytest.mark.slow
def test_a_worktree_of_the_users_whose_folder_is_away_is_not_forgotten(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS)
    git(arena.root, "worktree", "add", "-q", "-b", "mine", str(tmp_path / "on a disk"))
    (tmp_path / "on a disk").rename(tmp_path / "elsewhere")
    assert arena.loop(N).status == 0
    (tmp_path / "elsewhere").rename(tmp_path / "on a disk")
    assert git(tmp_path / "on a disk", "branch", "--show-current") == "mine"
