"""Corpora: where text comes from. Fixed; part of the arena.

A corpus is a name, a manifest (one digest that names every document and its place in the split) and two streams of
documents. Splits go by the hash of a document, never by its path, so that validation is not just another package.

    stdlib   the sources of the running Python's standard library: on every machine, a pure function of its version
    files    folders, globs or lists of text and parquet files of your own
    climbmix the ancestor's corpus, in climbmix.py
"""

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 1 << 16  # bytes: text files of one's own are cut at line ends into documents of about this size, or less
LARGEST_SHARE = 8  # no document larger than 1/8 of the validation text goes there, or one file would be the score
# Left out of `stdlib`: what distributions split off or generate (so that the same version gives the same corpus), and
# tables, which are not text.
LEFT_OUT = frozenset({
    "__pycache__", "site-packages", "dist-packages", "lib-dynload", "test", "tests", "idle_test", "idlelib", "tkinter",
    "turtledemo", "lib2to3", "ensurepip", "distutils", "venv", "pydoc_data", "encodings", "turtle", "config",
})  # fmt: skip
GENERATED = ("_sysconfigdata", "_sysconfig_vars", "sitecustomize", "usercustomize")


class CorpusError(Exception):
    """The corpus cannot be read; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Text in three parts that share no document; each makes a fresh stream of documents (UTF-8 bytes) at each call.

    By `val` candidates are chosen. `audit` is as large and only says afterwards whether the choice holds elsewhere.
    """

    name: str
    manifest: str
    train: Callable[[], Iterator[bytes]]
    val: Callable[[], Iterator[bytes]]
    audit: Callable[[], Iterator[bytes]]


def stdlib(val_bytes: int) -> Corpus:
    """The standard library's own sources; about 7.5 MB. Pure function of the Python version."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path for path in root.rglob("*.py") if _is_stdlib(path.relative_to(root)))
    if not paths:
        raise CorpusError(f'no sources of the standard library under {root}; use corpus = "files" in arena.toml')
    name = f"python-{'.'.join(map(str, sys.version_info[:3]))}-stdlib"
    return by_hash(name, lambda: (_clean(path.read_bytes()) for path in paths), val_bytes)


def _is_stdlib(relative: Path) -> bool:
    top = relative.parts[0].removesuffix(".py")
    return (
        top in sys.stdlib_module_names
        and LEFT_OUT.isdisjoint((*relative.parts[:-1], top))
        and not relative.name.startswith(GENERATED)
    )


def files(patterns: Iterable[str], val_bytes: int, text_column: str, base: Path) -> Corpus:
    """Text and parquet files of one's own: folders (read recursively), globs or paths, relative to `base`."""
    patterns = list(patterns)
    paths = sorted({path for pattern in patterns for path in _expand(pattern, base)})
    if not paths:
        raise CorpusError(f"no files match paths = {patterns!r} (relative to {base}); set paths in [data.options]")
    piece_bytes = max(1, min(PIECE_BYTES, val_bytes // (2 * LARGEST_SHARE)))

    def stream() -> Iterator[bytes]:
        for path in paths:
            yield from parquet_rows(path, text_column) if path.suffix == ".parquet" else pieces(path, piece_bytes)

    return by_hash("files", stream, val_bytes)


def _expand(pattern: str, base: Path) -> list[Path]:
    full = base / Path(pattern).expanduser()
    if full.is_file():
        return [full]
    if full.is_dir():
        found = [path for path in full.rglob("*") if path.is_file()]
        return [path for path in found if not any(part.startswith(".") for part in path.relative_to(full).parts)]
    root = Path(full.anchor) if Path(pattern).expanduser().is_absolute() else base
    return [path for path in root.glob(str(full.relative_to(root))) if path.is_file()]


def pieces(path: Path, piece_bytes: int) -> Iterator[bytes]:
    """A text file in pieces of about `piece_bytes`, cut at line ends; within a line that is longer than that."""
    piece: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        while line := file.readline(piece_bytes):
            piece.append(line)
            size += len(line)
            if size >= piece_bytes:
                yield _clean(b"".join(piece))
                piece, size = [], 0
    if piece:
        yield _clean(b"".join(piece))


def parquet_rows(path: Path, text_column: str) -> Iterator[bytes]:
    """Rows of one column of a parquet file, one row group in memory at a time."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise CorpusError(f"{path.name} is a parquet file; reading it needs pyarrow: pip install pyarrow") from None
    with pyarrow.parquet.ParquetFile(path) as table:
        names = table.schema_arrow.names
        if text_column not in names:
            raise CorpusError(f"{path} has no column {text_column!r}; set text_column to one of: {', '.join(names)}")
        for group in range(table.num_row_groups):
            for text in table.read_row_group(group, columns=[text_column]).column(0).to_pylist():
                if text:
                    yield _clean(text.encode() if isinstance(text, str) else bytes(text))


def by_hash(name: str, stream: Callable[[], Iterator[bytes]], val_bytes: int) -> Corpus:
    """Split a stream by document hash: the lowest hashes, `val_bytes` of them, are validation, the next `val_bytes`
    the audit; duplicates go once.

    Raises:
        CorpusError: if there is too little text for two parts of that size.
    """
    sizes = {hashlib.sha256(text).digest(): len(text) for text in stream() if text}
    fit = [digest for digest in sorted(sizes) if sizes[digest] <= max(val_bytes // LARGEST_SHARE, 1)]
    val = _lowest(fit, sizes, val_bytes)
    audit = _lowest(fit[len(val) :], sizes, val_bytes)
    total, held_bytes = sum(sizes.values()), sum(sizes[digest] for digest in (*val, *audit))
    if sum(sizes[digest] for digest in audit) < val_bytes or total < 2 * held_bytes:
        raise CorpusError(
            f"{name}: {total} bytes of text are too few for val_bytes = {val_bytes}, which are held out twice; "
            "lower it or add text"
        )
    parts = dict.fromkeys(val, "val") | dict.fromkeys(audit, "audit")
    entries = (f"{parts.get(digest, 'train')} {digest.hex()} {sizes[digest]}" for digest in sorted(sizes))
    manifest = hashlib.sha256("\n".join(entries).encode()).hexdigest()

    def train() -> Iterator[bytes]:
        seen = set(parts)
        for text in stream():
            digest = hashlib.sha256(text).digest()
            if text and digest not in seen:
                seen.add(digest)
                yield text

    def held_out(part: list[bytes]) -> Iterator[bytes]:
        wanted = set(part)
        kept = {digest: text for text in stream() if (digest := hashlib.sha256(text).digest()) in wanted}
        return (kept[digest] for digest in part)

    return Corpus(name=name, manifest=manifest, train=train, val=lambda: held_out(val), audit=lambda: held_out(audit))


def _lowest(digests: list[bytes], sizes: Mapping[bytes, int], wanted_bytes: int) -> list[bytes]:
    """The first of these documents, as many as hold `wanted_bytes`."""
    taken: list[bytes] = []
    size = 0
    for digest in digests:
        if size >= wanted_bytes:
            break
        taken.append(digest)
        size += sizes[digest]
    return taken


def _clean(text: bytes) -> bytes:
    """Text as valid UTF-8: what is not becomes U+FFFD, so that its bytes are those that the tokens stand for."""
    return text.decode("utf-8", errors="replace").encode()
