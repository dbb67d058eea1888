"""Data preparation: options, cache, lock. Fixed; part of the arena.

    $RALPH_DATA_DIR/<corpus>-<key>/   train.bin val.bin audit.bin token_bytes.npy tokenizer.json data-<len>x<batch>.json

The folder is filled beside and renamed into place. Its key covers all that its content depends on, so a folder that is
there is finished; its files are held against their digests before they are used.
"""

import fcntl
import hashlib
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from corpus import Corpus, CorpusError, files, stdlib

SCHEMA = 1
FORMAT = 2  # of the prepared files; another number prepares everything afresh
CORPORA = ("stdlib", "files", "climbmix")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """[data.options] of arena.toml; [data.options.cpu] replaces single ones on a CPU."""

    corpus: str = "stdlib"  # stdlib, files or climbmix
    vocab_size: int = 2048  # tokens, the separator included
    sequence_len: int = 256  # tokens in a window at scoring
    score_batch: int = 8  # windows in a batch at scoring
    val_bytes: int = 300_000  # bytes of text held out for the score, and as many again for the audit
    tokenizer_bytes: int = 50_000_000  # bytes of training text from which the tokenizer is learnt
    paths: tuple[str, ...] = ()  # files: folders, globs or paths, relative to arena.toml
    text_column: str = "text"  # files: the column of parquet files
    shards: int = 8  # climbmix: training shards
    base_url: str = ""  # climbmix: another place to download from


def read_options(arena_toml: Path, device: str) -> Options:
    """The options for `device`. Raises CorpusError naming an unknown option and the known ones, or a wrong value."""
    raw = tomllib.loads(arena_toml.read_text(encoding="utf-8")) if arena_toml.exists() else {}
    table = dict(raw.get("data", {}).get("options", {}))
    profile = table.pop("cpu", {})
    known = {item.name: item for item in fields(Options)}
    for name, value in (*table.items(), *profile.items()):
        if name not in known:
            raise CorpusError(f"{arena_toml}: unknown option {name!r} in [data.options]. Known: {', '.join(known)}")
        default = known[name].default
        wanted = list if isinstance(default, tuple) else type(default)
        if type(value) is not wanted:
            raise CorpusError(f"{arena_toml}: data.options.{name} = {value!r} is not of type {wanted.__name__}")
    chosen = {**table, **(profile if device == "cpu" else {})}
    if "paths" in chosen:
        chosen["paths"] = tuple(map(str, chosen["paths"]))
    options = Options(**chosen)
    _check(options, arena_toml)
    return options


def _check(options: Options, source: Path) -> None:
    if options.corpus not in CORPORA:
        raise CorpusError(f"{source}: corpus = {options.corpus!r}; known: {', '.join(CORPORA)}")
    if not 257 <= options.vocab_size <= 1 << 20:
        raise CorpusError(f"{source}: vocab_size = {options.vocab_size} is not between 257 and {1 << 20}")
    for name in ("sequence_len", "score_batch", "val_bytes", "tokenizer_bytes"):
        if getattr(options, name) < 1:
            raise CorpusError(f"{source}: {name} must be positive")


def prepare(folder: Path, options: Options, base: Path) -> Path:
    """The data.json for `options`, from the cache in `folder` or made now. Relative `paths` start at `base`.

    Raises:
        CorpusError: the corpus cannot be had, or a file in the cache is not what it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        progress = Progress()
        corpus = _corpus(folder, options, base, progress)
        place = folder / f"{corpus.name}-{_key(corpus, options)[:12]}"
        if not place.exists():
            _fill(place, corpus, options, progress)
        record = json.loads((place / "parts.json").read_text())
        _verify(place, record)
        return _describe(place, record, options)


def _corpus(folder: Path, options: Options, base: Path, progress: "Progress") -> Corpus:
    if options.corpus == "stdlib":
        return stdlib(options.val_bytes)
    if options.corpus == "files":
        return files(options.paths, options.val_bytes, options.text_column, base)
    import climbmix

    downloader = climbmix.Downloader(
        base_url=(options.base_url or climbmix.BASE_URL).rstrip("/"), folder=folder / "climbmix", progress=progress
    )
    return climbmix.climbmix(options.shards, options.val_bytes, downloader)


def _key(corpus: Corpus, options: Options) -> str:
    import tokenizers

    parts = (FORMAT, corpus.manifest, options.vocab_size, options.tokenizer_bytes, tokenizers.__version__)
    return _digest(parts)


def _fill(place: Path, corpus: Corpus, options: Options, progress: "Progress") -> None:
    import tokens

    temporary = place.with_name(f".making-{place.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # what a preparation that was killed left; we hold the lock
    temporary.mkdir()
    record = tokens.build(temporary, corpus, options.vocab_size, options.tokenizer_bytes, progress)
    tokens.write_json(temporary / "parts.json", record)
    tokens.sync_folder(temporary)
    temporary.rename(place)
    tokens.sync_folder(place.parent)
    progress.end()


def _verify(place: Path, record: dict[str, Any]) -> None:
    for entry in record["files"]:
        path = place / entry["path"]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry["sha256"]:
            raise CorpusError(
                f"{path} is damaged: its sha256 is not the one on record. Delete {place} and prepare again"
            )


def _describe(place: Path, record: dict[str, Any], options: Options) -> Path:
    import tokens

    shape = {"sequence_len": options.sequence_len, "score_batch": options.score_batch}
    identity = {key: value for key, value in record.items() if key != "facts"}
    described = {"schema": SCHEMA, "sha256": _digest((SCHEMA, identity, shape)), **record, **shape}
    path = place / f"data-{options.sequence_len}x{options.score_batch}.json"
    if not path.exists() or json.loads(path.read_text()) != described:
        tokens.write_json(path, described)
    return path


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: two preparations at once do the work once. Freed by the kernel if we are killed."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"prepare: another preparation is at work in {folder}; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Progress:
    """A bar on standard error: redrawn in place on a terminal, one line per phase elsewhere."""

    WIDTH = 30

    def __init__(self) -> None:
        self._phase = ""
        self._drawn = -1

    def __call__(self, phase: str, share: float) -> None:
        """Show that `share` (0 to 1) of `phase` is done."""
        if phase != self._phase:
            self.end()
            self._phase, self._drawn = phase, -1
            if not sys.stderr.isatty():
                print(f"prepare: {phase}", file=sys.stderr, flush=True)
        filled = int(self.WIDTH * min(share, 1.0))
        if sys.stderr.isatty() and filled != self._drawn:
            self._drawn = filled
            bar = "█" * filled + "·" * (self.WIDTH - filled)
            print(f"\rprepare: {phase:<22} {bar}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._phase and sys.stderr.isatty():
            print(file=sys.stderr)
        self._phase = ""
