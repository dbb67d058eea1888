"""The repository, through GitPython. The user's checkout, index, hooks and untracked files are never touched.

Candidates are examined with an index of our own against the repository's object store, never through the worktree's
`.git` file, index or configuration, which an agent could have changed. Hooks are off for every command.
"""

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from git import Git as PyGit
from git import Repo as PyRepo
from git.exc import GitCommandError
from git.exc import GitError as PyGitError

from ralph.adapters.files import remove_tree
from ralph.adapters.redaction import refuse_secret
from ralph.adapters.worktrees import admin_folder, forget
from ralph.core.constants import changed_constants, constants_of
from ralph.core.meaning import meaning_of
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.core.syntax import syntax_error
from ralph.errors import ConfigError, GitError, MovedBranchError, RefusedError
from ralph.model import Change

IDENTITY = {
    "GIT_AUTHOR_NAME": "ralph",
    "GIT_AUTHOR_EMAIL": "ralph@localhost",
    "GIT_COMMITTER_NAME": "ralph",
    "GIT_COMMITTER_EMAIL": "ralph@localhost",
    "GIT_OPTIONAL_LOCKS": "0",  # reading must never refresh, and so lock, the user's index
}
SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "commit.gpgSign=false")
OPTIONS = tuple(word for setting in SETTINGS for word in ("-c", setting))
NOTES = "ralph"
DRAFT_CHARACTERS = 12_000
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
REGULAR_MODES = frozenset({"100644", "100755", "000000"})  # 000000: the file is not there on that side


def branch_ref(campaign: str) -> str:
    """The incumbent's branch."""
    return f"refs/heads/ralph/{campaign}"


def experiment_ref(campaign: str, id: int) -> str:  # noqa: A002 - the word of the ledger
    """Where everything tried is pinned."""
    return f"refs/ralph/{campaign}/experiments/{id}"


class GitRepo:
    """The port `Repo` on a real repository. `arena` is the arena's folder inside it, `trees` where worktrees go."""

    def __init__(self, arena: Path, trees: Path, editable: Sequence[str], *, redact: Redactor = SHAPES_ONLY) -> None:
        """Open the repository around `arena`. Raises ConfigError when there is none, or git refuses it."""
        try:
            self._repo = PyRepo(arena, search_parent_directories=True, expand_vars=False)
            top = self._repo.working_tree_dir
            if top is None:
                raise ConfigError(f"{arena} is in a bare repository; ralph needs a checkout")
            self._top = Path(top).resolve()
            PyGit("/").execute(["git", "-C", top, "rev-parse", "--git-dir"])
        except GitCommandError as error:
            raise ConfigError(f"git refuses {arena}: {_stderr(error)}") from None
        except PyGitError:
            raise ConfigError(
                f"{arena} is not in a git repository. Run `git init`, add your files and commit them"
            ) from None
        self._common = Path(self._git("rev-parse", "--path-format=absolute", "--git-common-dir"))
        self._trees, self._redact = trees, redact
        self._prefix = arena.resolve().relative_to(self._top).as_posix()
        self._pathspecs = [f":(top,glob){self.inside(glob)}" for glob in editable]
        self._editable = ", ".join(editable)

    # --- where things are

    @property
    def store(self) -> Path:
        """The repository's own folder, `.git`."""
        return self._common

    @property
    def top(self) -> Path:
        """The repository's top folder."""
        return self._top

    def inside(self, path: str) -> str:
        """A path relative to the arena, as git names it: relative to the repository's top."""
        return path if self._prefix == "." else f"{self._prefix}/{path}"

    def outside(self, path: str) -> str:
        """The other way round: relative to the arena."""
        return path if self._prefix == "." else path.removeprefix(f"{self._prefix}/")

    def exists(self, ref: str) -> bool:
        """Whether a ref is there."""
        return self._rev(ref) is not None

    def arena_in(self, tree: Path) -> Path:
        """The arena's folder in a worktree."""
        return tree / self._prefix

    def head(self) -> str:
        """The commit that the user has checked out. Raises ConfigError when there is none yet."""
        try:
            return self._git("rev-parse", "--verify", "HEAD^{commit}")
        except GitError:
            raise ConfigError(f"{self._top} has no commit yet; commit your arena first") from None

    def dirty(self, paths: Sequence[str]) -> list[str]:
        """Which of these arena paths differ from HEAD in the user's checkout. Does not even refresh their index."""
        specs = [f":(top){self.inside(p)}" for p in paths]
        out = self._git("diff", "--name-only", "-z", "HEAD", "--", *specs)
        return [p for p in out.split("\0") if p]

    def sealed(self, commit: str, program: str) -> dict[str, str]:
        """Blob hashes, by path, of every file of the arena at `commit` that agents may not edit, but for program.md."""
        editable = set(self._names(commit, self._pathspecs))
        lines = self._git("ls-tree", "-r", "-z", commit, "--", f"{self._prefix}/").split("\0")
        rows = (line.split("\t", 1) for line in lines if line)
        sealed = {path: meta.split()[2] for meta, path in rows if path not in editable}
        if self._prefix == ".":  # the arena is a whole repository: fix the code, not every page and picture in it
            sealed = {p: h for p, h in sealed.items() if p.endswith((".py", ".toml", ".lock", ".sh", ".json", ".yaml"))}
        for name in (program, "arena.toml"):  # the human's text; and arena.toml, hashed by meaning, not by byte
            sealed.pop(self.inside(name), None)
        return sealed

    def blobs(self, hashes: Mapping[str, str]) -> dict[str, bytes]:
        """Contents by path, for paths with their blob hashes."""
        return {path: self._raw("cat-file", "blob", blob) for path, blob in hashes.items()}

    # --- campaign

    def open_campaign(self, campaign: str, base: str) -> None:
        """Make the branch if it is not there, and clear locks that a killed git of ours left on our own refs."""
        self._clear_stale_locks(campaign)
        if self._rev(branch_ref(campaign)) is None:
            self._git("update-ref", "-m", f"ralph: open {campaign}", branch_ref(campaign), base, "0" * 40)

    def advance(self, campaign: str, old: str, new: str) -> None:
        """Compare-and-set of the branch; a restart may repeat it."""
        ref = branch_ref(campaign)
        if self._rev(ref) == new:
            return
        self._refuse_checked_out(ref)
        try:
            self._git("update-ref", "-m", "ralph: keep", ref, new, old)
        except GitError as error:
            branch = ref.removeprefix("refs/heads/")
            raise MovedBranchError(
                f"branch {branch} is at {self._rev(ref)}, not at {old} where the ledger left it ({error}). "
                f"Move it back with `git branch -f {branch} {old}`, or begin a new campaign"
            ) from None

    def _refuse_checked_out(self, ref: str) -> None:
        for block in self._git("worktree", "list", "--porcelain").split("\n\n"):
            if f"branch {ref}" in block.splitlines():
                raise GitError(
                    f"{ref.removeprefix('refs/heads/')} is checked out in {block.split()[1]}, so it cannot move "
                    "without touching your files. Switch to another branch there and start the loop again"
                )

    def note(self, commit: str, text: str) -> None:
        """Set the verdict note; `git log --notes=ralph` shows it."""
        self._git("notes", f"--ref={NOTES}", "add", "-f", "-m", self._redact(text), commit)

    # --- worktrees

    def checkout(self, name: str, commit: str) -> Path:
        """A fresh detached worktree."""
        self.discard(name)
        path = self._trees / name
        self._trees.mkdir(parents=True, exist_ok=True)
        self._git("worktree", "add", "--force", "--detach", "--quiet", str(path), commit)
        return path

    def discard(self, name: str) -> None:
        """Remove a worktree with whatever is in it, however broken its git files are."""
        path, index = self._trees / name, self._trees / f"{name}.index"
        index.unlink(missing_ok=True)
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            remove_tree(path)
        if (admin := admin_folder(self._common, path)) is not None:
            forget(admin)

    def examine(self, name: str, base: str) -> Change:
        """Stage the worktree in an index of our own and hold every changed path against the rules."""
        path = self._trees / name
        if not path.is_dir():
            raise RefusedError("the worktree is gone: the agent removed its own folder")
        admin = admin_folder(self._common, path)
        if admin is None or (admin / "HEAD").read_text().strip() != base:
            raise RefusedError("the agent committed or moved HEAD by itself; edit the files and leave git to ralph")
        try:
            self._stage(path, base)
        except GitError as error:
            raise RefusedError(f"the worktree cannot be read: {error}") from None
        tree = self._git("write-tree", tree=path)
        files = self._changed(base, tree)
        self._check_rules(base, tree, files)
        before, contents = self.files(base), self.contents(tree)
        after = _texts(contents)
        for file, text in after.items():
            if mistake := syntax_error(file, text):
                raise RefusedError(f"{file} does not parse: {mistake}")
            refuse_secret(self._redact, file, before.get(file, ""), text)
        try:
            constants, meaning = changed_constants(constants_of(before), constants_of(after)), meaning_of(contents)
        except RecursionError:
            raise RefusedError("an expression is nested too deeply to be read") from None
        added, removed = self._numstat(base, tree)
        return Change(
            tree=tree,
            files=tuple(files),
            lines_added=added,
            lines_removed=removed,
            constants=constants,
            meaning=meaning,
        )

    def draft(self, name: str, base: str) -> str:
        """A diff of the editable files in a worktree, for whoever is to repair a proposal that was refused."""
        path = self._trees / name
        if not path.is_dir():
            return ""
        try:
            self._stage(path, base)
            diff = ("diff", "--cached", "--no-color", "--no-ext-diff", base, "--", *self._pathspecs)
            return self._redact(self._git(*diff, tree=path))[:DRAFT_CHARACTERS]
        except GitError:
            return ""

    def _stage(self, path: Path, base: str) -> None:
        """Everything in the worktree into an index of our own."""
        self._git("read-tree", base, tree=path)
        self._git("-c", f"core.excludesFile={self._own_folder()}", "add", "--all", "--", ":(top)", tree=path)

    def _own_folder(self) -> Path:
        """An ignore file that names the agent's own folder; git refuses a pathspec for a folder that is ignored."""
        file = self._trees / "own-folder.exclude"
        file.write_text(f"/{self.inside('.ralph')}/\n")
        return file

    def _check_rules(self, base: str, tree: str, files: Mapping[str, str]) -> None:
        if not files:
            raise RefusedError("nothing was changed")
        allowed = set(
            self._git("diff", "--name-only", "-z", "--no-renames", base, tree, "--", *self._pathspecs).split("\0")
        )
        if foreign := sorted(set(files) - allowed):
            shown = ", ".join(repr(p) for p in foreign[:5]) + (" …" if len(foreign) > 5 else "")
            raise RefusedError(f"changed {shown}, but only {self._editable} may be edited")
        if odd := sorted(path for path, mode in files.items() if mode not in REGULAR_MODES):
            raise RefusedError(f"{odd[0]!r} is not a regular file (mode {files[odd[0]]}); symlinks are not allowed")

    def commit(self, change: Change, base: str, message: str, ref: str) -> str:
        """Commit and pin; when `ref` already holds this very tree on this base, a restart is repeating itself."""
        pinned = self._rev(ref)
        if pinned and self._git("show", "-s", "--format=%T %P", pinned) == f"{change.tree} {base}":
            return pinned
        sha = self._git("commit-tree", change.tree, "-p", base, "-m", self._redact(message))
        self._git("update-ref", "-m", "ralph: pin", ref, sha)
        return sha

    def pin(self, ref: str, commit: str) -> None:
        """Point `ref` at `commit`."""
        self._git("update-ref", "-m", "ralph: pin", ref, commit)

    def set_aside(self, ref: str, to: str, instead: str = "") -> None:
        """Keep what `ref` points at under another name; `ref` points at `instead` from now on, or is gone."""
        old = self._rev(ref)
        if old is None or old == instead:
            return
        if instead:
            self._refuse_checked_out(ref)
        self.pin(to, old)
        self._git("update-ref", "-m", "ralph: set aside", *((ref, instead, old) if instead else ("-d", ref, old)))

    def apply(self, old: str, new: str) -> None:
        """Bring the difference of the editable files into the user's checkout, unstaged; only `ralph adopt` does this.

        Raises:
            ConfigError: when it does not apply to what is checked out.
        """
        patch = self._raw("diff", "--binary", "--no-color", "--no-ext-diff", old, new, "--", *self._pathspecs)
        self._trees.mkdir(parents=True, exist_ok=True)
        file = self._trees / "adopt.patch"
        file.write_bytes(patch)
        try:
            self._git("apply", "--whitespace=nowarn", str(file))
        except GitError as error:
            raise ConfigError(
                f"the change does not apply to your checkout: {error}. See it with `ralph diff`"
            ) from None
        finally:
            file.unlink()

    # --- reading

    def identity(self) -> str:
        """The user's own `name <email>`; empty when git has none for them."""
        try:
            name, email = (self._git("config", "--get", f"user.{key}") for key in ("name", "email"))
        except GitError:
            return ""
        return f"{name} <{email}>"

    def pinned(self, campaign: str) -> set[int]:
        """Ids of the experiments that have a ref."""
        out = self._git("for-each-ref", "--format=%(refname)", f"refs/ralph/{campaign}/experiments/")
        return {int(ref.rpartition("/")[2]) for ref in out.split() if ref.rpartition("/")[2].isdigit()}

    def history(self, commit: str, limit: int) -> Sequence[str]:
        """`abc1234 subject | note`, newest first."""
        out = self._git(
            "log",
            f"--max-count={limit}",
            f"--notes={NOTES}",
            "--format=%h %s%x00%N%x01",
            commit,
            "--",
            f"{self._prefix}/",
        )
        rows = (row.strip().partition("\0") for row in out.split("\1") if row.strip())
        return [
            self._redact(subject + (f" | {' '.join(note.split())}" if note.strip() else ""))
            for subject, _, note in rows
        ]

    def files(self, commit: str) -> Mapping[str, str]:
        """Texts by path relative to the arena; bytes that are not UTF-8 are replaced."""
        return _texts(self.contents(commit))

    def contents(self, commit: str) -> dict[str, bytes]:
        """The editable files by path relative to the arena."""
        names = self._names(commit, self._pathspecs)
        return {self.outside(n): self._raw("cat-file", "blob", f"{commit}:{n}") for n in names}

    def diff(self, old: str, new: str) -> str:
        """A unified diff of the arena's folder."""
        return self._redact(self._git("diff", "--no-color", "--no-ext-diff", old, new, "--", f"{self._prefix}/"))

    def diffs(self, pairs: Iterable[tuple[str, str]]) -> list[str]:
        """What `diff` answers for each pair of an old and a new commit, by one git for all of them."""
        asked = [f"{new} {old}" for old, new in pairs]
        if not asked:
            return []
        with tempfile.TemporaryFile() as questions:
            questions.write("".join(line + "\n" for line in asked).encode())
            questions.seek(0)
            out = self._raw(
                "diff-tree", "--stdin", "-r", "-p", "--always", "--no-color", "--no-ext-diff", "-M",
                "--format=%x00%H%x00", "--", f"{self._prefix}/", stdin=questions,
            )  # fmt: skip
        found = re.split(r"\0[0-9a-f]{40,64}\0", out.decode("utf-8", "replace"))[1:]
        if len(found) != len(asked):
            raise GitError(f"git diff-tree answered {len(found)} of {len(asked)} questions")
        return [self._redact(text.strip("\n")) for text in found]

    def _names(self, treeish: str, pathspecs: Sequence[str]) -> list[str]:
        out = self._git(
            "diff", "--name-only", "-z", "--no-renames", "--diff-filter=A", EMPTY_TREE, treeish, "--", *pathspecs
        )
        return [n for n in out.split("\0") if n]

    def _changed(self, base: str, tree: str) -> dict[str, str]:
        """Changed paths with their new file mode."""
        fields = self._git("diff-tree", "-r", "-z", "--no-renames", "--raw", base, tree).split("\0")
        return {path: meta.split()[1] for meta, path in zip(fields[::2], fields[1::2], strict=False) if meta}

    def _numstat(self, base: str, tree: str) -> tuple[int, int]:
        rows = [
            r.split("\t") for r in self._git("diff", "--numstat", "-z", "--no-renames", base, tree).split("\0") if r
        ]
        counts = [(int(a), int(r)) for a, r, _ in rows if a != "-"]
        return sum(a for a, _ in counts), sum(r for _, r in counts)

    # --- git itself

    def _rev(self, ref: str) -> str | None:
        try:
            return self._git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        except GitError:
            return None

    def _clear_stale_locks(self, campaign: str) -> None:
        """A git killed in the middle leaves ref locks; on our own refs nobody else can be their owner."""
        ours = [branch_ref(campaign), f"refs/notes/{NOTES}", f"refs/ralph/{campaign}"]
        for ref in ours:
            path = self._common / ref
            locks = [path.with_name(path.name + ".lock"), *(path.rglob("*.lock") if path.is_dir() else ())]
            for lock in locks:
                lock.unlink(missing_ok=True)

    def _git(self, *args: str, tree: Path | None = None) -> str:
        return self._raw(*args, tree=tree).decode("utf-8", "surrogateescape").rstrip("\n")

    def _raw(self, *args: str, tree: Path | None = None, stdin: BinaryIO | None = None) -> bytes:
        """Run git in the user's repository; with `tree`, on that worktree through an index of our own."""
        ours = {} if tree is None else {"GIT_DIR": str(self._common), "GIT_WORK_TREE": str(tree)}
        index = {} if tree is None else {"GIT_INDEX_FILE": str(self._trees / f"{tree.name}.index")}
        try:
            # by -C: GitPython would take a `$HOME` in a folder's name for the variable, and end up elsewhere
            out: object = PyGit("/").execute(
                ["git", "-C", str(tree or self._top), *OPTIONS, *args], env={**IDENTITY, **ours, **index},
                stdout_as_string=False, strip_newline_in_stdout=False, istream=stdin,
            )  # fmt: skip
        except GitCommandError as error:
            raise GitError(f"git {' '.join(args[:2])}: {_stderr(error)}") from None
        return out if isinstance(out, bytes) else str(out).encode()


def _texts(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {path: data.decode(errors="replace") for path, data in contents.items()}


def _stderr(error: GitCommandError) -> str:
    text = str(error.stderr).strip().removeprefix("stderr:").strip().strip("'")
    return " ".join(text.split())[:400] or f"exit status {error.status}"
