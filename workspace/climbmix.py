"""The ancestor's corpus: shards of ClimbMix as parquet files, one of them pinned for validation. Fixed.

Source: karpathy/autoresearch, prepare.py (shard names, the pinned shard). The download is ours: it resumes where it was
cut, retries what may pass, gives up on what will not, and remembers each shard's sha256 at its first complete download
(shards.json), against which the shard is checked ever after.

Not covered: the first download is believed as it comes (TLS aside); there is no published digest to hold it against.
"""

import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tenacity

from corpus import Corpus, CorpusError, parquet_rows
from tokens import write_file, write_json

BASE_URL = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main"
LAST_SHARD = 6542  # also the pinned validation shard
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0  # without a byte
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that waiting may change


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard_{index:05d}.parquet"


def climbmix(shards: int, val_bytes: int, downloader: "Downloader") -> Corpus:
    """The first `shards` shards for training; of the pinned one the beginning, `val_bytes` of it, for validation, and
    as much of what follows, without repetitions, for the audit.
    """
    if not 1 <= shards <= LAST_SHARD:
        raise CorpusError(f"shards = {shards} is not between 1 and {LAST_SHARD}; set it in [data.options]")
    held_out = downloader.fetch(shard_name(LAST_SHARD))
    paths = [downloader.fetch(shard_name(index)) for index in range(shards)]
    digests = [downloader.digest(path.name) for path in (held_out, *paths)]

    def val() -> Iterator[bytes]:
        return _until(val_bytes, parquet_rows(held_out, "text"))

    def audit() -> Iterator[bytes]:
        rows = parquet_rows(held_out, "text")
        seen = {hashlib.sha256(text).digest() for text in _until(val_bytes, rows)}
        return _until(val_bytes, (text for text in rows if hashlib.sha256(text).digest() not in seen))

    if sum(map(len, audit())) < val_bytes:
        raise CorpusError(
            f"{held_out.name} does not hold val_bytes = {val_bytes} twice, for validation and for the audit; lower it"
        )

    return Corpus(
        name=f"climbmix-{shards}",
        manifest=hashlib.sha256(json.dumps([val_bytes, *digests]).encode()).hexdigest(),
        train=lambda: (text for path in paths for text in parquet_rows(path, "text")),
        val=val,
        audit=audit,
    )


def _until(wanted_bytes: int, texts: Iterator[bytes]) -> Iterator[bytes]:
    """Texts until they hold so many bytes; none beyond is taken."""
    taken = 0
    for text in texts:
        yield text
        taken += len(text)
        if taken >= wanted_bytes:
            return


class _TransientError(Exception):
    """May pass by itself. `advanced`: new bytes came before it."""

    def __init__(self, reason: str, *, advanced: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.advanced = advanced
        self.retry_after_s = retry_after_s


@dataclass(slots=True, kw_only=True)
class _Patience:
    """Counts failures in a row that brought nothing; waits longer after each, or as long as the server asks."""

    attempts: int
    longest_wait_s: float
    fruitless: int = 0

    def stop(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        self.fruitless = 0 if isinstance(error, _TransientError) and error.advanced else self.fruitless + 1
        return self.fruitless >= self.attempts

    def wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, _TransientError) else 0.0
        return min(max(asked_s, 0.5 * 2.0**self.fruitless), self.longest_wait_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader:
    """Fetches files of `base_url` into `folder`. `attempts` failures in a row without a new byte end it."""

    base_url: str
    folder: Path
    attempts: int = 6
    longest_wait_s: float = 60.0
    progress: Callable[[str, float], None] = field(default=lambda _name, _share: None)

    def fetch(self, name: str) -> Path:
        """The verified file `name`, downloaded first if it is not there.

        Raises:
            CorpusError: no network, not there, kept failing, or its sha256 is not the one on record.
        """
        path = self.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            self._download(name)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        known = self._known()
        if name not in known:
            known[name] = {"sha256": digest, "bytes": path.stat().st_size, "url": f"{self.base_url}/{name}"}
            write_json(self._record, known)
        if known[name]["sha256"] != digest:
            raise CorpusError(
                f"{path}: its sha256 {digest[:16]}… is not {self.digest(name)[:16]}…, the one on record in "
                f"{self._record}. Delete the file to download it again, or its entry there if the shard itself changed"
            )
        return path

    def digest(self, name: str) -> str:
        """The sha256 on record."""
        return str(self._known()[name]["sha256"])

    @property
    def _record(self) -> Path:
        return self.folder / "shards.json"

    def _known(self) -> dict[str, dict[str, object]]:
        known: dict[str, dict[str, object]] = json.loads(self._record.read_text()) if self._record.exists() else {}
        return known

    def _download(self, name: str) -> None:
        part = self.folder / f"{name}.part"
        patience = _Patience(attempts=self.attempts, longest_wait_s=self.longest_wait_s)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            stop=patience.stop,
            wait=patience.wait,
            reraise=True,
        )
        try:
            attempts(self._resume, name, part)
        except _TransientError as error:
            raise CorpusError(
                f"{self.base_url}/{name}: {error}; {patience.fruitless} attempts in a row brought nothing. Is there a "
                f"network? What has come stays in {part}: the next start resumes there. Without a network, use "
                'corpus = "stdlib" or "files" in [data.options]'
            ) from None
        part.replace(self.folder / name)
        _etag_file(part).unlink(missing_ok=True)

    def _resume(self, name: str, part: Path) -> None:
        """One request for what is missing of `part`. Returns when it is complete."""
        request = urllib.request.Request(f"{self.base_url}/{name}", headers={"User-Agent": "ralph"})
        have = part.stat().st_size if part.exists() else 0
        if have and _etag_file(part).exists():
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", _etag_file(part).read_text())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                self._receive(name, part, response)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # our part is longer than the file: it is of another version
                part.unlink(missing_ok=True)
                raise _TransientError("the server has less than we have; starting over") from None
            if error.code not in PASSING:
                raise CorpusError(f"{request.full_url}: the server answers {error.code} {error.reason}") from None
            raise _TransientError(
                f"the server answers {error.code} {error.reason}", retry_after_s=_asked_s(error)
            ) from None
        except (OSError, http.client.HTTPException) as error:
            now = part.stat().st_size if part.exists() else 0
            raise _TransientError(f"{type(error).__name__}: {error}", advanced=now > have) from None

    def _receive(self, name: str, part: Path, response: http.client.HTTPResponse) -> None:
        start = _range_start(response)
        if start and (not part.exists() or start != part.stat().st_size):
            raise _TransientError(f"the server resumes at byte {start}, which was not asked for")
        length = response.headers.get("Content-Length")
        if length is None:
            raise CorpusError(f"{self.base_url}/{name}: the server does not tell its size")
        if etag := response.headers.get("ETag", "").removeprefix("W/"):
            write_file(_etag_file(part), etag.encode())
        else:  # nothing to tell versions apart by: the next attempt starts over
            _etag_file(part).unlink(missing_ok=True)
        total, have = start + int(length), start
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                self.progress(name, have / total)
        if have != total:
            raise _TransientError(f"cut after {have} of {total} bytes", advanced=have > start)


def _etag_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _range_start(response: http.client.HTTPResponse) -> int:
    if response.status != 206:
        return 0
    content_range = response.headers.get("Content-Range", "")
    try:
        return int(content_range.removeprefix("bytes ").split("-")[0])
    except ValueError:
        raise _TransientError(f"unreadable Content-Range {content_range!r}") from None


def _asked_s(error: urllib.error.HTTPError) -> float:
    value = error.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0
