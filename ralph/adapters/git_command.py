"""One command of git, through GitPython: hooks off, our identity, nothing that an agent or a user configured for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from git import Git as PyGit
from git import Repo as PyRepo
from git.exc import GitCommandError
from git.exc import GitError as PyGitError

from ralph.errors import ConfigError, GitError

IDENTITY = {
    "GIT_AUTHOR_NAME": "ralph",
    "GIT_AUTHOR_EMAIL": "ralph@localhost",
    "GIT_COMMITTER_NAME": "ralph",
    "GIT_COMMITTER_EMAIL": "ralph@localhost",
    "GIT_OPTIONAL_LOCKS": "0",  # reading must never refresh, and so lock, the user's index
}
SETTINGS = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "commit.gpgSign=false",
    # An index of ours outlives an agent. By its times and inode an edited file shows, whatever the agent did to them.
    "core.trustctime=true", "core.checkStat=default", "core.untrackedCache=false", "core.splitIndex=false",
)  # fmt: skip
OPTIONS = tuple(word for setting in SETTINGS for word in ("-c", setting))


def opened(arena: Path) -> Path:
    """The top folder of the repository around `arena`.

    Raises:
        ConfigError: when there is none, it has no checkout, or git refuses it.
    """
    try:
        top = PyRepo(arena, search_parent_directories=True, expand_vars=False).working_tree_dir
        if top is None:
            raise ConfigError(f"{arena} is in a bare repository; ralph needs a checkout")
        PyGit("/").execute(["git", "-C", str(top), "rev-parse", "--git-dir"])
    except GitCommandError as error:
        raise ConfigError(f"git refuses {arena}: {_stderr(error)}") from None
    except PyGitError:
        raise ConfigError(
            f"{arena} is not in a git repository. Run `git init`, add your files and commit them"
        ) from None
    return Path(top).resolve()


def run(folder: Path, args: Sequence[str], *, env: Mapping[str, str], stdin: BinaryIO | None = None) -> bytes:
    """What git prints when it is run in `folder`. Raises GitError with its words."""
    try:
        # by -C: GitPython would take a `$HOME` in a folder's name for the variable, and end up elsewhere
        out: object = PyGit("/").execute(
            ["git", "-C", str(folder), *OPTIONS, *args], env={**IDENTITY, **env},
            stdout_as_string=False, strip_newline_in_stdout=False, istream=stdin,
        )  # fmt: skip
    except GitCommandError as error:
        raise GitError(f"git {' '.join(args[:2])}: {_stderr(error)}") from None
    return out if isinstance(out, bytes) else str(out).encode()


def _stderr(error: GitCommandError) -> str:
    text = str(error.stderr).strip().removeprefix("stderr:").strip().strip("'")
    return " ".join(text.split())[:400] or f"exit status {error.status}"
