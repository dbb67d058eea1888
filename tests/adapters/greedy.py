"""Payloads that take more than their share, as one program: ``python -I -S greedy.py KIND FOLDER``."""

import os
import sys
import time

FOREVER_S = 600.0
DOUBLINGS = 12  # 4,096 processes
MB = 1_000_000


def filled(size: int) -> bytearray:
    """Memory that is really there: written, not only promised."""
    return bytearray(b"x") * size


def memory() -> None:
    """Four processes that have 40 MB each; none of them is large."""
    for _ in range(3):
        if os.fork() == 0:
            break
    kept = filled(40 * MB)
    time.sleep(FOREVER_S)
    del kept


def sharing() -> None:
    """Six processes that share 60 MB, and end after a while."""
    kept = filled(60 * MB)
    for _ in range(5):
        if os.fork() == 0:
            time.sleep(0.7)
            os._exit(0)
    for _ in range(5):
        os.wait()
    del kept


def memory_disk() -> None:
    """Files in memory that no process has mapped."""
    with open("/dev/shm/hoard", "wb") as file:  # noqa: PTH123
        for _ in range(200):
            file.write(filled(MB))
    time.sleep(FOREVER_S)


def bomb() -> None:
    """Every process starts another, up to far more than any limit here, but fewer than the machine has room for."""
    for _ in range(DOUBLINGS):
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
    time.sleep(FOREVER_S)


def scattered_bomb() -> None:
    """The same, every one of them in a session of its own."""
    for _ in range(DOUBLINGS):
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            time.sleep(0.01)
    time.sleep(FOREVER_S)


def many_threads() -> None:
    import threading

    threading.stack_size(65536)
    for _ in range(400):
        try:
            threading.Thread(target=time.sleep, args=(FOREVER_S,), daemon=True).start()
        except RuntimeError:  # the kernel allows an ordinary user no more
            time.sleep(0.01)
    time.sleep(FOREVER_S)


def fill() -> None:
    """Many files in folders below folders."""
    for number in range(1000):
        folder = os.path.join(sys.argv[2], "open", str(number % 7), str(number % 11))  # noqa: PTH118
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        with open(f"{folder}/{number}", "wb") as file:  # noqa: PTH123
            file.write(filled(MB // 10))
        if number == 300:
            time.sleep(FOREVER_S)


def fill_empty() -> None:
    """Files without a byte take room as well."""
    for number in range(10_000):
        os.close(os.open(f"{sys.argv[2]}/open/{number}", os.O_CREAT | os.O_WRONLY))
    time.sleep(FOREVER_S)


def large_file() -> None:
    """A hole, larger than any disk."""
    with open(f"{sys.argv[2]}/open/hole", "wb") as file:  # noqa: PTH123
        file.truncate(1 << 40)


def large_file_written() -> None:
    with open(f"{sys.argv[2]}/open/large", "wb") as file:  # noqa: PTH123
        while True:
            file.write(filled(MB))


def many_files() -> None:
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        os.write(1, f"{len(kept)} {error.strerror}\n".encode())


def dump_core() -> None:
    os.chdir(sys.argv[2])
    os.abort()


def flood() -> None:
    """Write as fast as it goes; the last words count."""
    os.write(1, b"the first words\n")
    for number in range(1 << 30):
        os.write(1, b"x" * 65535 + b"\n")
        os.write(1, f"line {number}\n".encode())


if __name__ == "__main__":
    globals()[sys.argv[1]]()
