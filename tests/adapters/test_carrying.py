"""A candidate's change on another incumbent, in real repositories with hostile names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.git import GitRepo, experiment_ref
from ralph.errors import RefusedError
from tests.conftest import git

CAMPAIGN = "nov23"
START = "WIDTH = 96\nDEPTH = 2\nRATE = 0.1\n\n\ndef train():\n    return WIDTH\n\n\ntrain()\n"


@pytest.fixture
def repo(repository: Path) -> GitRepo:
    (repository / "train.py").write_text(START)
    git(repository, "commit", "-qam", "start")
    (repository / "state").mkdir()
    (repository / "state" / ".gitignore").write_text("*\n")
    return GitRepo(repository, repository / "state" / "trees", ["train.py", "models/**"])


def candidate(repo: GitRepo, number: int, change: Callable[[Path], object]) -> str:
    base = repo.head()
    change(repo.checkout(f"{number}-agent", base))
    commit = repo.commit(repo.examine(f"{number}-agent", base), base, "m", experiment_ref(CAMPAIGN, number))
    repo.discard(f"{number}-agent")
    return commit


def replaced(old: str, new: str, name: str = "train.py") -> Callable[[Path], object]:
    def change(tree: Path) -> None:
        text = (tree / name).read_text()
        assert old in text
        (tree / name).write_text(text.replace(old, new))

    return change


def added(name: str, text: str = "x = 1\n") -> Callable[[Path], object]:
    def change(tree: Path) -> None:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("ours", "theirs", "result"),
    [
        (("WIDTH = 96", "WIDTH = 128"), ("return WIDTH", "return 2 * WIDTH"), ("WIDTH = 128", "return 2 * WIDTH")),
        (("WIDTH = 96", "WIDTH = 128"), ("DEPTH = 2", "DEPTH = 3"), ("WIDTH = 128\nDEPTH = 3",)),
        (("RATE = 0.1", "RATE = 0.2"), ("RATE = 0.1\n", "RATE = 0.1\nMORE = 1\n"), None),
        (("\n\ntrain()\n", "\n\ntrain()\ntrain()\n"), ("RATE = 0.1", "RATE = 0.3"), ("RATE = 0.3", "train()\ntrain()")),
    ],
)
def test_a_change_is_made_on_what_was_kept_since(
    repo: GitRepo, ours: tuple[str, str], theirs: tuple[str, str], result: tuple[str, ...] | None
) -> None:
    mine, kept = candidate(repo, 2, replaced(*ours)), candidate(repo, 1, replaced(*theirs))
    if result is None:
        with pytest.raises(RefusedError, match=r"both changed the same lines of train\.py"):
            repo.rebase(mine, kept)
        return
    change = repo.rebase(mine, kept)
    moved = repo.commit(change, kept, "m", experiment_ref(CAMPAIGN, 2))
    text = repo.files(moved)["train.py"]
    assert all(part in text for part in result), text
    assert git(repo.top, "rev-parse", f"{moved}^") == kept
    assert change.files == ("train.py",)
    assert repo.diff(kept, moved).count("\n-") <= 2  # nothing of the other change is in it


def test_what_it_changes_there_is_measured_there(repo: GitRepo) -> None:
    mine = candidate(repo, 2, replaced("WIDTH = 96", "WIDTH = 128"))
    kept = candidate(repo, 1, replaced("DEPTH = 2", "DEPTH = 3"))
    assert repo.rebase(mine, kept).constants == {"train.py:WIDTH": 128}


@pytest.mark.parametrize("value", ["WIDTH = 128", "WIDTH = 64"])
def test_two_values_for_one_constant_contradict_each_other_and_one_value_is_there_already(
    repo: GitRepo, value: str
) -> None:
    mine = candidate(repo, 2, replaced("WIDTH = 96", value))
    kept = candidate(repo, 1, replaced("WIDTH = 96", "WIDTH = 128"))
    why = "it holds all of this change already" if value == "WIDTH = 128" else "both changed the same lines"
    with pytest.raises(RefusedError, match=why):
        repo.rebase(mine, kept)


def test_files_that_came_on_either_side_are_in_the_result(repo: GitRepo) -> None:
    mine, kept = candidate(repo, 2, added("models/ours.py")), candidate(repo, 1, added("models/theirs, it's.py"))
    moved = repo.commit(repo.rebase(mine, kept), kept, "m", experiment_ref(CAMPAIGN, 2))
    assert set(repo.files(moved)) == {"train.py", "models/ours.py", "models/theirs, it's.py"}


def test_a_file_that_came_on_both_sides_in_two_ways_contradicts_itself(repo: GitRepo) -> None:
    mine, kept = (
        candidate(repo, 2, added("models/a.py", "x = 1\n")),
        candidate(repo, 1, added("models/a.py", "x = 2\n")),
    )
    with pytest.raises(RefusedError, match="both changed"):
        repo.rebase(mine, kept)


def test_a_file_that_one_took_away_and_the_other_changed_contradicts_itself(repo: GitRepo) -> None:
    candidate(repo, 3, added("models/a.py"))
    git(repo.top, "reset", "--hard", "-q", experiment_ref(CAMPAIGN, 3))
    mine = candidate(repo, 2, lambda tree: (tree / "models" / "a.py").unlink())
    kept = candidate(repo, 1, replaced("x = 1", "x = 2", "models/a.py"))
    with pytest.raises(RefusedError, match=r"both changed models/a\.py, and one took it away"):
        repo.rebase(mine, kept)
    other = candidate(repo, 4, replaced("WIDTH = 96", "WIDTH = 128"))
    moved = repo.commit(repo.rebase(mine, other), other, "m", experiment_ref(CAMPAIGN, 2))
    assert set(repo.files(moved)) == {"train.py"}


def test_both_together_must_parse(repo: GitRepo) -> None:
    block = "if WIDTH:\n    one()\n    # first\n    # then\n    # and last\n    two()\n"
    start = candidate(repo, 3, replaced("\n\ntrain()\n", f"\n\n{block}train()\n"))
    git(repo.top, "reset", "--hard", "-q", start)
    mine, kept = candidate(repo, 2, replaced("    one()\n", "")), candidate(repo, 1, replaced("    two()\n", ""))
    with pytest.raises(RefusedError, match=r"train\.py does not parse"):
        repo.rebase(mine, kept)


def test_bytes_that_are_no_text_are_not_merged(repo: GitRepo) -> None:
    git(repo.top, "reset", "--hard", "-q", candidate(repo, 5, added("models/b")))
    left = candidate(repo, 6, lambda tree: (tree / "models/b").write_bytes(b"\0\xff2"))
    right = candidate(repo, 7, lambda tree: (tree / "models/b").write_bytes(b"\0\xff3"))
    with pytest.raises(RefusedError, match="both changed the same lines of models/b"):
        repo.rebase(left, right)


def test_nothing_of_the_users_is_touched(repo: GitRepo, repository: Path) -> None:
    mine = candidate(repo, 2, replaced("WIDTH = 96", "WIDTH = 128"))
    kept = candidate(repo, 1, replaced("DEPTH = 2", "DEPTH = 3"))
    (repository / "train.py").write_text("# I am editing this\n")
    index, before = (repository / ".git" / "index").read_bytes(), git(repository, "status", "--porcelain")
    repo.rebase(mine, kept)
    assert (repository / ".git" / "index").read_bytes() == index
    assert git(repository, "status", "--porcelain") == before
    assert not list((repository / "state" / "trees").glob("*.index"))
