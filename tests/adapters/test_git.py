"""The repository adapter, on real repositories in folders with hostile names."""

import os
import subprocess
from pathlib import Path

import pytest

from ralph.adapters.git import DRAFT_CHARACTERS, GitRepo, branch_ref, experiment_ref
from ralph.core.meaning import meaning_of
from ralph.errors import ConfigError, GitError, MovedBranchError, RefusedError
from tests.conftest import git

CAMPAIGN = "nov23"


@pytest.fixture
def repo(repository: Path) -> GitRepo:
    made = GitRepo(repository, repository / "state" / "trees", ["train.py", "models/**"])
    (repository / "state").mkdir()
    (repository / "state" / ".gitignore").write_text("*\n")
    made.open_campaign(CAMPAIGN, made.head())
    return made


def edit(tree: Path, text: str = "LEARNING_RATE = 0.2  # per step\n") -> None:
    (tree / "train.py").write_text(text)


def test_a_candidate_is_committed_pinned_and_leaves_the_checkout_alone(repo: GitRepo, repository: Path) -> None:
    (repository / "mine.txt").write_text("untracked\n")
    (repository / "train.py").write_text("# I am editing this\n")
    index = (repository / ".git" / "index").read_bytes()
    before = git(repository, "status", "--porcelain")
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    edit(tree)
    change = repo.examine("1-agent", base)
    commit = repo.commit(change, base, "try 0.2\n", experiment_ref(CAMPAIGN, 1))
    repo.advance(CAMPAIGN, base, commit)
    repo.note(commit, "keep: better")
    repo.discard("1-agent")
    assert change.files == ("train.py",)
    assert change.constants == {"train.py:LEARNING_RATE": 0.2}
    assert (change.lines_added, change.lines_removed, change.lines_delta) == (1, 2, -1)
    assert git(repository, "rev-parse", branch_ref(CAMPAIGN)) == commit
    assert git(repository, "rev-parse", experiment_ref(CAMPAIGN, 1)) == commit
    assert "keep: better" in git(repository, "log", "--notes=ralph", f"ralph/{CAMPAIGN}")
    assert git(repository, "status", "--porcelain") == before
    assert (repository / ".git" / "index").read_bytes() == index
    assert (repository / "train.py").read_text() == "# I am editing this\n"
    assert not tree.exists()
    assert git(repository, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert repo.pinned(CAMPAIGN) == {1}


def test_committing_again_after_a_crash_gives_the_same_commit(repo: GitRepo) -> None:
    base = repo.head()
    edit(repo.checkout("1-agent", base))
    ref = experiment_ref(CAMPAIGN, 1)
    first = repo.commit(repo.examine("1-agent", base), base, "m", ref)
    assert repo.commit(repo.examine("1-agent", base), base, "m", ref) == first


def test_the_files_of_the_incumbent_stay_at_hand_whatever_candidates_come(repo: GitRepo, repository: Path) -> None:
    base, commits = repo.head(), list[str]()
    before = repo.files(base)
    for number in range(1, 7):
        edit(repo.checkout(f"{number}-agent", base), f"LEARNING_RATE = 0.{number}\n")
        change = repo.examine(f"{number}-agent", base)
        commits.append(repo.commit(change, base, "m", experiment_ref(CAMPAIGN, number)))
    (repository / ".git").rename(repository / "out of reach")
    assert repo.files(base) == before
    assert repo.files(commits[-1])["train.py"] == "LEARNING_RATE = 0.6\n"
    with pytest.raises(GitError):
        repo.files(commits[0])


def misbehave(tree: Path, how: str) -> None:  # noqa: C901 - a list
    match how:
        case "edits a fixed file":
            (tree / "prepare.py").write_text("FIXED = False\n")
        case "deletes a fixed file":
            (tree / "prepare.py").unlink()
        case "adds a foreign file":
            (tree / "sitecustomize.py").write_text("")
        case "changes nothing":
            pass
        case "commits by itself":
            edit(tree)
            git(tree, "commit", "-qam", "mine")
        case "breaks the syntax":
            edit(tree, "def (:\n")
        case "deletes what it may edit and leaves a symlink":
            (tree / "train.py").unlink()
            (tree / "train.py").symlink_to("/etc/passwd")
        case "deletes the worktree":
            subprocess.run(["rm", "-rf", str(tree)], check=True)
        case "makes a file executable that it may not touch":
            (tree / "prepare.py").chmod(0o755)
        case "hides a file by an ignore rule of its own":
            (tree / ".gitignore").write_text("*.txt\n")
        case "nests a repository":
            (tree / "models").mkdir()
            git(tree / "models", "init", "-q")
            (tree / "models" / "a.py").write_text("A = 1\n")
            git(tree / "models", "add", ".")
            git(tree / "models", "commit", "-qm", "nested")
        case "names a file with a newline":
            (tree / "a\nb").write_text("")
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("edits a fixed file", "changed 'prepare.py', but only train.py, models/\\*\\* may be edited"),
        ("deletes a fixed file", "changed 'prepare.py'"),
        ("adds a foreign file", "changed 'sitecustomize.py'"),
        ("changes nothing", "nothing was changed"),
        ("commits by itself", "committed or moved HEAD"),
        ("breaks the syntax", "train.py does not parse"),
        ("deletes what it may edit and leaves a symlink", "symlinks are not allowed"),
        ("deletes the worktree", "removed its own folder"),
        ("makes a file executable that it may not touch", "changed 'prepare.py'"),
        ("hides a file by an ignore rule of its own", "changed '.gitignore'"),
        ("nests a repository", "models"),
        ("names a file with a newline", "changed"),
    ],
)
def test_a_worktree_that_breaks_a_rule_is_refused_with_the_reason(repo: GitRepo, how: str, reason: str) -> None:
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    misbehave(tree, how)
    with pytest.raises(RefusedError, match=reason):
        repo.examine("1-agent", base)
    repo.discard("1-agent")
    assert not tree.exists()


def test_what_an_agent_does_to_its_git_file_index_and_hooks_changes_nothing(repo: GitRepo, repository: Path) -> None:
    base = repo.head()
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    tree = repo.checkout("1-agent", base)
    git(tree, "update-index", "--assume-unchanged", "prepare.py")
    (tree / "prepare.py").write_text("FIXED = False\n")
    (tree / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(RefusedError, match=r"prepare\.py"):
        repo.examine("1-agent", base)
    repo.discard("1-agent")
    assert not (tree / "hooked").exists()


@pytest.mark.parametrize("ignored", [False, True])
def test_the_agents_own_folder_is_not_part_of_the_change(repo: GitRepo, repository: Path, ignored: bool) -> None:
    if ignored:
        (repository / ".gitignore").write_text(".ralph/\n")
        git(repository, "add", ".gitignore")
        git(repository, "commit", "-qm", "ignore it")
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    edit(tree)
    (tree / ".ralph").mkdir()
    (tree / ".ralph" / "proposal.json").write_text("{}")
    assert repo.examine("1-agent", base).files == ("train.py",)


def test_an_edit_that_keeps_size_and_time_of_a_file_is_seen(repo: GitRepo) -> None:
    """An index of ours outlives the agent, and spares reading what did not change."""
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    file = tree / "train.py"
    before = file.stat()
    file.write_text(file.read_text().replace("0.1", "0.3"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert repo.examine("1-agent", base).constants == {"train.py:LEARNING_RATE": 0.3}


def test_without_the_index_of_its_checkout_a_worktree_is_read_anew(repo: GitRepo, repository: Path) -> None:
    """For one of a supervisor that was killed, or of an earlier version."""
    base = repo.head()
    edit(repo.checkout("1-agent", base))
    (repository / "state" / "trees" / "1-agent.index").unlink()
    assert repo.examine("1-agent", base).files == ("train.py",)


def test_an_editable_file_may_be_added_and_removed(repo: GitRepo, repository: Path) -> None:
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    (tree / "models" / "deep").mkdir(parents=True)
    (tree / "models" / "deep" / "new.py").write_text("WIDTH = 1\n")
    (tree / "train.py").unlink()
    change = repo.examine("1-agent", base)
    assert set(change.files) == {"train.py", "models/deep/new.py"}
    commit = repo.commit(change, base, "m", experiment_ref(CAMPAIGN, 1))
    assert repo.contents(commit) == {"models/deep/new.py": b"WIDTH = 1\n"}
    assert GitRepo(repository, repository / "state" / "trees", ["train.py", "models/**"]).contents(
        commit
    ) == repo.contents(commit)


def test_a_branch_moved_by_somebody_else_is_not_moved_again(repo: GitRepo, repository: Path) -> None:
    base = repo.head()
    edit(repo.checkout("1-agent", base))
    commit = repo.commit(repo.examine("1-agent", base), base, "m", experiment_ref(CAMPAIGN, 1))
    other = git(repository, "commit-tree", f"{base}^{{tree}}", "-m", "other")
    git(repository, "update-ref", branch_ref(CAMPAIGN), other)
    with pytest.raises(MovedBranchError, match=f"git branch -f ralph/{CAMPAIGN}"):
        repo.advance(CAMPAIGN, base, commit)
    assert git(repository, "rev-parse", branch_ref(CAMPAIGN)) == other


def test_advancing_twice_is_advancing_once(repo: GitRepo) -> None:
    base = repo.head()
    edit(repo.checkout("1-agent", base))
    commit = repo.commit(repo.examine("1-agent", base), base, "m", experiment_ref(CAMPAIGN, 1))
    repo.advance(CAMPAIGN, base, commit)
    repo.advance(CAMPAIGN, base, commit)


def test_a_branch_that_is_checked_out_is_not_moved_under_the_users_feet(repo: GitRepo, repository: Path) -> None:
    base = repo.head()
    git(repository, "switch", "-q", f"ralph/{CAMPAIGN}")
    edit(repo.checkout("1-agent", base))
    commit = repo.commit(repo.examine("1-agent", base), base, "m", experiment_ref(CAMPAIGN, 1))
    with pytest.raises(GitError, match="Switch to another branch"):
        repo.advance(CAMPAIGN, base, commit)


def test_locks_that_a_killed_git_left_on_our_refs_are_cleared(repo: GitRepo, repository: Path) -> None:
    lock = repository / ".git" / (branch_ref(CAMPAIGN) + ".lock")
    lock.write_text("")
    repo.open_campaign(CAMPAIGN, repo.head())
    assert not lock.exists()


def test_a_name_in_use_is_made_fresh(repo: GitRepo) -> None:
    tree = repo.checkout("1-agent", repo.head())
    (tree / "left.txt").write_text("from before")
    tree.chmod(0o500)
    assert repo.checkout("1-agent", repo.head()) == tree
    assert not (tree / "left.txt").exists()


def test_files_are_those_of_the_commit_and_match_globs(repo: GitRepo, repository: Path) -> None:
    (repository / "models" / "deep").mkdir(parents=True)
    (repository / "models" / "deep" / "a.py").write_text("A = 1\n")
    git(repository, "add", "models")
    git(repository, "commit", "-qm", "models")
    assert set(repo.files(repo.head())) == {"train.py", "models/deep/a.py"}
    assert set(repo.sealed(repo.head(), "program.md")) == {"prepare.py"}


def test_an_arena_below_the_top_has_paths_of_its_own(repository: Path) -> None:
    (repository / "workspace").mkdir()
    for name in ("train.py", "prepare.py"):
        git(repository, "mv", name, f"workspace/{name}")
    git(repository, "commit", "-qm", "move")
    repo = GitRepo(repository / "workspace", repository / "state" / "trees", ["train.py"])
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    edit(repo.arena_in(tree))
    assert set(repo.files(base)) == {"train.py"}
    assert repo.examine("1-agent", base).constants == {"train.py:LEARNING_RATE": 0.2}
    (tree / "program.md").write_text("mine\n")
    with pytest.raises(RefusedError, match=r"program\.md"):
        repo.examine("1-agent", base)


def test_a_change_that_runs_the_same_has_the_same_meaning(repo: GitRepo) -> None:
    base = repo.head()
    meanings = []
    for n, text in enumerate(("LR = 0.2  # per step\n", "LR = (2e-1)\n", "LR = 0.3\n")):
        edit(repo.checkout(f"{n}-agent", base), text)
        meanings.append(repo.examine(f"{n}-agent", base).meaning)
    assert meanings[0] == meanings[1] != meanings[2]
    assert meaning_of(repo.contents(base)) not in meanings


def test_many_diffs_at_once_are_those_of_one_by_one(repo: GitRepo, repository: Path) -> None:
    commits = [repo.head()]
    for n in range(3):
        (repository / "train.py").write_bytes(f"A = {n}\n# \u2028 \xfc".encode() + b"\xff\n")
        git(repository, "commit", "-qam", f"change {n}")
        commits.append(repo.head())
    pairs = [(commits[0], commits[3]), (commits[2], commits[1]), (commits[1], commits[1])]
    assert [each.encode("utf-8", "replace") for each in repo.diffs(pairs)] == [
        repo.diff(old, new).encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode() for old, new in pairs
    ]
    assert repo.diffs(pairs)[2] == ""
    assert repo.diffs([]) == []
    with pytest.raises(GitError):
        repo.diffs([(commits[0], "e" * 40)])


def test_history_shows_commits_with_their_verdicts(repo: GitRepo) -> None:
    base = repo.head()
    (line,) = repo.history(base, 5)
    assert line.endswith("An arena")
    repo.note(base, "keep: baseline")
    for _ in range(2):
        (line,) = repo.history(base, 5)
        assert line.endswith("An arena | keep: baseline")
    edit(repo.checkout("1-agent", base))
    commit = repo.commit(repo.examine("1-agent", base), base, "try 0.2", experiment_ref(CAMPAIGN, 1))
    assert [each.partition(" ")[2] for each in repo.history(commit, 5)] == ["try 0.2", "An arena | keep: baseline"]
    assert len(repo.history(commit, 1)) == 1


def test_a_folder_without_a_repository_or_commit_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="git init"):
        GitRepo(tmp_path, tmp_path / "trees", ["train.py"])
    git(tmp_path, "init", "-q")
    with pytest.raises(ConfigError, match="commit your arena first"):
        GitRepo(tmp_path, tmp_path / "trees", ["train.py"]).head()


def test_adopting_changes_the_checkout_and_nothing_else(repo: GitRepo, repository: Path) -> None:
    base = repo.head()
    edit(repo.checkout("1-agent", base))
    commit = repo.commit(repo.examine("1-agent", base), base, "m", experiment_ref(CAMPAIGN, 1))
    repo.apply(base, commit)
    assert git(repository, "status", "--porcelain") == "M train.py"
    with pytest.raises(ConfigError, match="does not apply"):
        repo.apply(base, commit)


def test_a_draft_is_a_diff_of_the_editable_files_even_where_rules_were_broken(repo: GitRepo, repository: Path) -> None:
    base = repo.head()
    tree = repo.checkout("1-agent", base)
    edit(tree, "def broken(:\n")
    (tree / "prepare.py").write_text("forged\n")
    (tree / "models").mkdir(exist_ok=True)
    (tree / "models" / "new.py").write_text("x = 1\n")
    with pytest.raises(RefusedError):
        repo.examine("1-agent", base)
    draft = repo.draft("1-agent", base)
    assert "+def broken(:" in draft
    assert "models/new.py" in draft
    assert "forged" not in draft
    assert repo.draft("gone", base) == ""


def test_a_draft_has_a_bounded_length(repo: GitRepo) -> None:
    base = repo.head()
    edit(repo.checkout("1-agent", base), "x = 1\n" * 100_000)
    assert len(repo.draft("1-agent", base)) == DRAFT_CHARACTERS


def test_a_folder_named_like_a_variable_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitPython would expand it, and fall back to the repository of the current folder."""
    other, ours = tmp_path / "other", tmp_path / "$HOME"
    for folder in (other, ours):
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main")
        (folder / "train.py").write_text(f"NAME = {folder.name!r}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", folder.name)
    monkeypatch.chdir(other)
    repo = GitRepo(ours, tmp_path / "trees", ("train.py",))
    assert repo.top == ours
    assert repo.files(repo.head()) == {"train.py": "NAME = '$HOME'\n"}
