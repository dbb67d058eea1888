"""The repository, through GitPython. The user's checkout, index, hooks and untracked files are never touched.

Candidates are examined with an index of our own against the repository's object store, never through the worktree's
`.git` file, index or configuration, which an agent could have changed. Hooks are off for every command.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from ralph.adapters.carrying import carried_over
from ralph.adapters.files import is_empty_folder, remove_tree
from ralph.adapters.git_command import opened, run
from ralph.adapters.git_objects import Objects
from ralph.adapters.git_output import SUBMODULE, Changed, read_changes
from ralph.adapters.housekeeping import Housekeeping
from ralph.adapters.redaction import refuse_secret
from ralph.adapters.worktrees import add_worktree, admin_folder, forget_worktree
from ralph.core.constants import changed_constants, constants_of
from ralph.core.meaning import meaning_of
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.core.syntax import syntax_error
from ralph.errors import ConfigError, GitError, MovedBranchError, RefusedError
from ralph.model import Change

NOTES = "ralph"
DRAFT_CHARACTERS = 12_000
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
NOTHING = "0" * 40
FULL_NAME = re.compile(r"[0-9a-f]{40}")
TREES_KNOWN = 4  # whose editable files are remembered: incumbent and candidate, and those before them
REGULAR_MODES = frozenset({"100644", "100755", "000000"})  # 000000: the file is not there on that side


def branch_ref(campaign: str) -> str:
    """The incumbent's branch."""
    return f"refs/heads/ralph/{campaign}"


def experiment_ref(campaign: str, id: int) -> str:  # noqa: A002 - the word of the ledger
    """Where everything tried is pinned."""
    return f"refs/ralph/{campaign}/experiments/{id}"


class GitRepo:
    """The port `Repo` on a real repository. `arena` is the arena's folder inside it, `trees` where worktrees go."""

    def __init__(
        self,
        arena: Path,
        trees: Path,
        editable: Sequence[str],
        *,
        redact: Redactor = SHAPES_ONLY,
        remove: Callable[[Path], None] = remove_tree,
    ) -> None:
        """Open the repository around `arena`; `remove` does away with worktrees.

        Raises:
            ConfigError: when there is no repository, or git refuses it.
        """
        self._top = opened(arena)
        self._common = Path(self._git("rev-parse", "--path-format=absolute", "--git-common-dir"))
        self._trees, self._redact, self._remove = trees, redact, remove
        self._house = Housekeeping(self._common, self._git)
        self._objects = Objects(self._common, self._raw)
        self._prefix = arena.resolve().relative_to(self._top).as_posix()
        self._pathspecs = [f":(top,glob){self.inside(glob)}" for glob in editable]
        self._editable = ", ".join(editable)
        self._known: dict[str, dict[str, bytes]] = {}  # by full name of commit or tree, which never means anything else

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
        editable = self._entries(commit).keys()
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
        return dict(zip(hashes, self._objects.read(list(hashes.values())), strict=True))

    # --- campaign

    def open_campaign(self, campaign: str, base: str) -> None:
        """Make the branch if it is not there, and clear locks that a killed git of ours left on our own refs."""
        self._clear_stale_locks(campaign)
        self._house.begin(self._common / f"refs/ralph/{campaign}/experiments")
        if self._rev(branch_ref(campaign)) is None:
            self._git("update-ref", "-m", f"ralph: open {campaign}", branch_ref(campaign), base, NOTHING)

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
        """A fresh detached worktree, and the index of ours that `examine` will hold it against.

        An empty folder in its place stays the same one: an agent may stand by in a sandbox that shows it.
        """
        path = self._trees / name
        if is_empty_folder(path):
            self._index(path).unlink(missing_ok=True)
            forget_worktree(self._common, path)
        else:
            self.discard(name)
        self._trees.mkdir(parents=True, exist_ok=True)
        sha = commit if FULL_NAME.fullmatch(commit) else self._git("rev-parse", "--verify", f"{commit}^{{commit}}")
        admin = add_worktree(self._common, path, sha)
        self._git("read-tree", "--reset", "-u", sha, tree=path)
        shutil.copyfile(self._index(path), admin / "index")  # for an agent that asks git what it has changed
        return path

    def discard(self, name: str) -> None:
        """Remove a worktree with whatever is in it, however broken its git files are."""
        path = self._trees / name
        self._index(path).unlink(missing_ok=True)
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            self._remove(path)
        forget_worktree(self._common, path)

    def _index(self, tree: Path) -> Path:
        """Our index of a worktree, beside it, where whoever works in it cannot write."""
        return self._trees / f"{tree.name}.index"

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
        return self._change(base, self._git("write-tree", tree=path))

    def rebase(self, commit: str, onto: str) -> Change:
        """The change of a candidate on another incumbent, held against the rules once more."""
        old = self._git("rev-parse", "--verify", f"{commit}^")
        self._trees.mkdir(parents=True, exist_ok=True)
        index = self._trees / f"carry-{commit}.index"
        return self._change(onto, carried_over(self._raw, old, commit, onto, index))

    def _change(self, base: str, tree: str) -> Change:
        """What `tree` changes against `base`. Raises RefusedError naming the rule that it breaks."""
        changes = read_changes(self._git("diff-tree", "-r", "-z", "--no-renames", "--raw", "--numstat", base, tree))
        contents = self._candidate(base, tree, changes)
        before, after = self.files(base), _texts(contents)
        for file, text in after.items():
            if mistake := syntax_error(file, text):
                raise RefusedError(f"{file} does not parse: {mistake}")
            refuse_secret(self._redact, file, before.get(file, ""), text)
        try:
            constants = changed_constants(constants_of(before), constants_of(after))
            meaning = meaning_of(contents)
        except RecursionError:
            raise RefusedError("an expression is nested too deeply to be read") from None
        return Change(
            tree=tree,
            files=tuple(changes),
            lines_added=sum(each.lines_added for each in changes.values()),
            lines_removed=sum(each.lines_removed for each in changes.values()),
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
        """Everything in the worktree into an index of our own; that of its checkout spares reading unchanged files."""
        if not self._index(path).exists():
            self._git("read-tree", base, tree=path)
        self._git("-c", f"core.excludesFile={self._own_folder()}", "add", "--all", "--", ":(top)", tree=path)

    def _own_folder(self) -> Path:
        """An ignore file that names the agent's own folder; git refuses a pathspec for a folder that is ignored."""
        file = self._trees / "own-folder.exclude"
        file.write_text(f"/{self.inside('.ralph')}/\n")
        return file

    def _candidate(self, base: str, tree: str, changes: Mapping[str, Changed]) -> dict[str, bytes]:
        """The editable files of a candidate. Raises RefusedError when it changes anything else."""
        if not changes:
            raise RefusedError("nothing was changed")
        before = {self.inside(path) for path in self.contents(base)}
        # A path that was editable is; only of a new one has git to be asked whether a glob means it.
        allowed = before if before.issuperset(changes) else before | self._entries(tree).keys()
        if foreign := sorted(set(changes) - allowed):
            shown = ", ".join(repr(p) for p in foreign[:5]) + (" …" if len(foreign) > 5 else "")
            raise RefusedError(f"changed {shown}, but only {self._editable} may be edited")
        if odd := sorted(path for path, change in changes.items() if change.mode not in REGULAR_MODES):
            raise RefusedError(
                f"{odd[0]!r} is not a regular file (mode {changes[odd[0]].mode}); symlinks are not allowed"
            )
        there = {path: change.blob for path, change in changes.items() if change.exists}
        kept = {path: data for path, data in self.contents(base).items() if self.inside(path) not in changes}
        changed = {self.outside(path): data for path, data in self.blobs(there).items()}
        return self._remember(tree, dict(sorted({**kept, **changed}.items())))

    def _remember(self, name: str, contents: dict[str, bytes]) -> dict[str, bytes]:
        while len(self._known) >= TREES_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[name] = contents
        return contents

    def commit(self, change: Change, base: str, message: str, ref: str) -> str:
        """Commit and pin; when `ref` already holds this very tree on this base, a restart is repeating itself."""
        sha = self._git("commit-tree", change.tree, "-p", base, "-m", self._redact(message))
        try:
            self._git("update-ref", "-m", "ralph: pin", ref, sha, NOTHING)
        except GitError:
            pinned = self._rev(ref)
            if pinned and self._git("show", "-s", "--format=%T %P", pinned) == f"{change.tree} {base}":
                return pinned
            self.pin(ref, sha)
        self._house.pinned()
        if change.tree in self._known:
            self._remember(sha, self._known.pop(change.tree))
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
        if commit in self._known:  # and so used again: the incumbent stays, whatever candidates come and go
            return dict(self._remember(commit, self._known.pop(commit)))
        entries = self._entries(commit)
        contents = {self.outside(path): data for path, data in self.blobs(entries).items()}
        return dict(self._remember(commit, contents)) if FULL_NAME.fullmatch(commit) else contents

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

    def _entries(self, treeish: str) -> dict[str, str]:
        """Blobs of the editable files by path; a submodule is no file."""
        out = self._git(
            "diff", "--raw", "--no-abbrev", "-z", "--no-renames", "--diff-filter=A",
            EMPTY_TREE, treeish, "--", *self._pathspecs,
        )  # fmt: skip
        return {path: each.blob for path, each in read_changes(out).items() if each.mode != SUBMODULE}

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

    def _raw(
        self,
        *args: str,
        tree: Path | None = None,
        stdin: BinaryIO | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Run git in the user's repository; with `tree`, on that worktree through an index of our own."""
        ours = {} if tree is None else {"GIT_DIR": str(self._common), "GIT_WORK_TREE": str(tree)}
        index = {} if tree is None else {"GIT_INDEX_FILE": str(self._index(tree))}
        return run(tree or self._top, args, env={**ours, **index, **env}, stdin=stdin)


def _texts(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {path: data.decode(errors="replace") for path, data in contents.items()}
