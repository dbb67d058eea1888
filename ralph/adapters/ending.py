"""The end of a kill domain, as its shim writes it down: the record, and what is kept of a log that became too long.

A part of the shim's program: imported by file, beside next to nothing, while nobody waits.
"""
# ruff: noqa: PTH105, PTH118

import os
import resource
from _json import encode_basestring_ascii as quoted  # by way of json it would cost 14 ms of enums and patterns

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 1024 * 1024
COPY_BYTES = 1 << 20


def record(fields: "dict[str, object]") -> bytes:
    """The bytes of exit.json: what `json.dumps` makes of texts, finite numbers and None."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    told = {"schema": 1, **fields, "peak_bytes": peak}
    pairs = ", ".join(f"{quoted(name)}: {_json(value)}" for name, value in told.items())
    return f"{{{pairs}}}\n".encode()


def _json(value: object) -> str:
    return "null" if value is None else quoted(value) if isinstance(value, str) else repr(value)


def write_whole(folder: str, name: str, data: bytes) -> None:
    """Write a file so that it is either absent or whole, whenever somebody is killed.

    Not synced, since somebody waits: after a power cut it may be missing or empty, and the payload counts as unfinished
    unless the ledger, which is synced, has its end.
    """
    path = os.path.join(folder, name)
    fd = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    try:
        while data:
            data = data[os.write(fd, data) :]  # may come up short
    finally:
        os.close(fd)
    os.replace(f"{path}.tmp", path)


def cut_log(log: int, limit: "int | None") -> None:
    """Keep the beginning and the end of a log that is longer than `limit`; its last words say why a payload ended.

    Args:
        log: a descriptor of it, open for writing; nothing writes to it any more.
        limit: bytes; None leaves any log as it is.
    """
    size = os.fstat(log).st_size
    if limit is None or size <= limit:
        return
    head, tail = min(HEAD_BYTES, limit // 4), min(TAIL_BYTES, limit // 2)
    try:
        fd = os.open(f"/proc/self/fd/{log}", os.O_RDWR)  # ours appends only
    except OSError:
        return
    try:
        end = os.pread(fd, tail, size - tail)
        gap = f"\n… {size - head - tail:,} bytes were cut here …\n".encode()
        at = head
        for part in (gap, end):
            at += os.pwrite(fd, part, at)
        os.ftruncate(fd, at)
    finally:
        os.close(fd)
