"""Downloads, against a server of ours that cuts connections, is overloaded, ignores ranges, and changes its files."""

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import climbmix
from climbmix import Downloader
from corpus import CorpusError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; each request is first offered to the next of `faults`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {"/a": CONTENT}
        self.etag = '"one"'
        self.faults: list[Callable[[Handler], bool]] = []
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    """GET with ranges."""

    server: Server
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        if self.server.faults and self.server.faults.pop(0)(self):
            return
        self.answer()

    def answer(self, *, ranges: bool = True, cut_after: int | None = None) -> None:
        content = self.server.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range") if ranges else None
        if self.headers.get("If-Range") not in {None, self.server.etag}:
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(content[start:][:cut_after])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def downloader(server: Server, folder: Path, attempts: int = 3) -> Downloader:
    return Downloader(base_url=server.url, folder=folder, attempts=attempts, longest_wait_s=0.01)


def cut(after: int) -> Callable[[Handler], bool]:
    def fault(handler: Handler) -> bool:
        handler.answer(cut_after=after)
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    return fault


def status(code: int) -> Callable[[Handler], bool]:
    def fault(handler: Handler) -> bool:
        handler.send_response(code)
        handler.send_header("Retry-After", "1000")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return fault


def test_a_file_arrives_whole_with_its_digest_on_record(server: Server, hostile: Path) -> None:
    shares: list[float] = []
    fetch = Downloader(base_url=server.url, folder=hostile, progress=lambda _name, share: shares.append(share))
    assert fetch.fetch("a").read_bytes() == CONTENT
    assert fetch.digest("a") == hashlib.sha256(CONTENT).hexdigest()
    assert shares[-1] == 1.0
    assert sorted(path.name for path in hostile.iterdir()) == ["a", "shards.json"]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    downloader(server, tmp_path).fetch("a")
    downloader(server, tmp_path).fetch("a")
    assert len(server.ranges) == 1


def test_a_cut_download_resumes_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.faults = [cut(100_000), cut(50_000), cut(1)]
    assert downloader(server, tmp_path).fetch("a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_progress_resets_the_count_of_failures(server: Server, tmp_path: Path) -> None:
    server.faults = [cut(1000) for _ in range(20)]
    assert downloader(server, tmp_path, attempts=2).fetch("a").read_bytes() == CONTENT


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = [status(503), status(429)]
    assert downloader(server, tmp_path).fetch("a").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    def whole(handler: Handler) -> bool:
        handler.answer(ranges=False)
        return True

    server.faults = [cut(100_000), whole]
    assert downloader(server, tmp_path).fetch("a").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_glued_together(server: Server, tmp_path: Path) -> None:
    other = bytes(reversed(CONTENT))

    def change(handler: Handler) -> bool:
        handler.server.content["/a"], handler.server.etag = other, '"two"'
        return False

    server.faults = [cut(100_000), change]
    assert downloader(server, tmp_path).fetch("a").read_bytes() == other


def test_a_file_that_became_shorter_starts_over(server: Server, tmp_path: Path) -> None:
    def shrink(handler: Handler) -> bool:
        handler.server.content["/a"] = CONTENT[:1000]
        return False

    server.faults = [cut(100_000), shrink]
    assert downloader(server, tmp_path).fetch("a").read_bytes() == CONTENT[:1000]


def test_the_next_start_resumes_too(server: Server, tmp_path: Path) -> None:
    server.faults = [cut(100_000), status(503), status(503), status(503)]
    with pytest.raises(CorpusError, match=r"503.*3 attempts in a row brought nothing.*resumes there"):
        downloader(server, tmp_path).fetch("a")
    assert not (tmp_path / "a").exists()
    server.ranges.clear()
    assert downloader(server, tmp_path).fetch("a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=100000-"]


def test_what_is_not_there_is_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="404"):
        downloader(server, tmp_path).fetch("b")
    assert len(server.ranges) == 1


def test_without_a_network_the_error_says_what_else_there_is(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        fetch = Downloader(base_url=url, folder=tmp_path, attempts=2, longest_wait_s=0.01)
        with pytest.raises(CorpusError, match=r'Is there a network\?.*corpus = "stdlib"'):
            fetch.fetch("a")


def test_a_file_that_rotted_on_disk_is_found(server: Server, tmp_path: Path) -> None:
    path = downloader(server, tmp_path).fetch("a")
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(CorpusError, match=r"is not .* the one on record"):
        downloader(server, tmp_path).fetch("a")


def test_a_shard_that_differs_from_the_record_is_refused(server: Server, tmp_path: Path) -> None:
    downloader(server, tmp_path).fetch("a").unlink()
    server.content["/a"] = CONTENT[::-1]
    with pytest.raises(CorpusError, match="the one on record"):
        downloader(server, tmp_path).fetch("a")


def shard(path: Path, texts: list[str]) -> bytes:
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    return path.read_bytes()


def test_the_corpus_is_the_first_shards_and_the_pinned_one(server: Server, tmp_path: Path) -> None:
    for index in (0, 1, 2, climbmix.LAST_SHARD):
        texts = [f"shard {index} row {row} ☃" for row in range(50)]
        server.content[f"/{climbmix.shard_name(index)}"] = shard(tmp_path / "made.parquet", texts)
    corpus = climbmix.climbmix(2, 100, downloader(server, tmp_path / "kept"))
    train, val = list(corpus.train()), list(corpus.val())
    assert len(train) == 100
    assert train[50].decode() == "shard 1 row 0 ☃"
    assert {text.split()[1] for text in val} == {b"6542"}
    audit = list(corpus.audit())
    assert {text.split()[1] for text in audit} == {b"6542"}
    assert set(audit).isdisjoint(val)
    for held_out in (val, audit):
        assert 100 <= sum(map(len, held_out)) < 130
    again = climbmix.climbmix(2, 100, downloader(server, tmp_path / "kept"))
    assert again.manifest == corpus.manifest
    assert climbmix.climbmix(3, 100, downloader(server, tmp_path / "kept")).manifest != corpus.manifest
    assert len(json.loads((tmp_path / "kept" / "shards.json").read_text())) == 4


def test_a_validation_shard_too_short_for_an_audit_is_an_error(server: Server, tmp_path: Path) -> None:
    for index in (0, climbmix.LAST_SHARD):
        again = ["the same row"] * 50
        server.content[f"/{climbmix.shard_name(index)}"] = shard(tmp_path / "made.parquet", again)
    with pytest.raises(CorpusError, match=r"does not hold val_bytes = 100 twice.*lower it"):
        climbmix.climbmix(1, 100, downloader(server, tmp_path / "kept"))


def test_a_senseless_number_of_shards_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="shards = 0"):
        climbmix.climbmix(0, 100, downloader(server, tmp_path))
