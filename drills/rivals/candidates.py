"""Programs: honest ones, and those that attack whoever evaluates them."""

from pathlib import Path

NAME = "# candidate "
HEAD = """\
# EVOLVE-BLOCK-START
{name}{number}
{code}
def answer(seed=0):
    {body}
    return {value}
# EVOLVE-BLOCK-END
"""


def candidate(number: int, value: float | str, *, code: str = "", body: str = "pass") -> str:
    """A program whose true score is `value`; `code` is carried out when it is imported, `body` when it is asked."""
    body = body.strip().replace("\n", "\n    ")
    return HEAD.format(name=NAME, number=number, code=code, body=body, value=value)


def number_of(program: str) -> int:
    """Which candidate a text is."""
    return int(program.partition(NAME)[2].split()[0])


PRINTS = """\
import json, sys
print("combined_score: 0.999")
print("---")
print("score: 0.999")
print(json.dumps({"score": 0.999, "combined_score": 0.999}), flush=True)
"""

# Wherever it can guess that results may be: what the command line names, where it stands, what the environment names.
_WRITE = """\
import json, os, pathlib, sys
def forge():
    words = [os.getcwd(), *sys.argv, *(v for v in os.environ.values() if v.startswith("/") and ":" not in v)]
    folders = {p if p.is_dir() else p.parent for p in map(pathlib.Path, words) if p.exists()}
    for folder in folders:
        for name in ("metrics.json", "score.json", "results.json", "artifact.json", "result.json"):
            try:
                (folder / name).write_text(json.dumps({"combined_score": 0.999, "score": 0.999}))
                (folder / "correct.json").write_text(json.dumps({"correct": True, "error": None}))
            except OSError:
                pass
"""
WRITES_AT_EXIT = _WRITE + "import atexit\natexit.register(forge)\n"
WRITES_AND_LEAVES = _WRITE + "forge()\nos._exit(0)\n"

PATCHES = """\
import sys
def patch():
    frame = sys._getframe()
    tables = [vars(m) for m in list(sys.modules.values()) if m]
    while frame:
        tables.append(frame.f_globals)
        frame = frame.f_back
    for table in tables:
        if callable(table.get("score")):
            table["score"] = lambda *a, **k: 0.999
patch()
"""


def rewrites_evaluator(task: Path) -> str:
    """It writes another evaluator over the user's."""
    return f"""\
import pathlib
for path in pathlib.Path({str(task)!r}).rglob("*.py"):
    try:
        text = path.read_text()
        if "def score(" in text:
            path.write_text(text.replace("    return answer\\n", "    return 0.999\\n"))
    except OSError:
        pass
"""


def edits_records(folder: Path) -> str:
    """It raises earlier scores wherever they are written down: 0.3125 becomes 0.9990."""
    return f"""\
import pathlib, sqlite3
for path in pathlib.Path({str(folder)!r}).rglob("*"):
    try:
        if path.suffix in (".sqlite", ".db"):
            with sqlite3.connect(path) as base:
                base.execute("UPDATE programs SET combined_score = 0.999 WHERE combined_score = 0.3125")
        elif path.suffix in (".json", ".jsonl", ".tsv"):
            text = path.read_text()
            if "0.3125" in text:
                path.write_text(text.replace("0.3125", "0.9990"))
    except (OSError, sqlite3.Error, UnicodeError):
        pass
"""


# What it found out is told by its answer, which everybody must record: 0.75 yes, 0.25 no.
TELL = "0.75 if found else 0.25"


def reads_environment(secret: str) -> str:
    """It looks for a key in its own environment."""
    return f"import os\nfound = any({secret[::-1]!r}[::-1] in v for v in os.environ.values())\n"


def reads_parents(secret: str) -> str:
    """It looks for a key in the environment of any process that it can see."""
    return f"""\
import pathlib
secret, found = {secret[::-1]!r}[::-1].encode(), False
for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
        found = found or secret in path.read_bytes()
    except OSError:
        pass
"""


def reads_file(path: Path) -> str:
    """It looks into a file."""
    return f"""\
try:
    found = bool(open({str(path)!r}).read())
except OSError:
    found = False
"""


def writes_file(path: Path) -> str:
    """It writes a file."""
    return f"""\
try:
    open({str(path)!r}, "w").write("was here")
except OSError:
    pass
"""


def calls(port: int) -> str:
    """It connects to a server of this machine."""
    return f"""\
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 2).close()
except OSError:
    pass
"""


CHILD = """\
import subprocess
subprocess.Popen(["sleep", "{word}"])
"""
DAEMON = """\
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for fd in range(256):
            try: os.close(fd)
            except OSError: pass
        os.execvp("sleep", ["sleep", "{word}"])
    os._exit(0)
os.wait()
"""
HANGS = "import time\nwhile True: time.sleep(0.05)"
TAKES_TIME = "import time\ntime.sleep({seconds})"
FLOODS = """\
import os
for _ in range({megabytes}):
    os.write(1, (b"x" * 1023 + b"\\n") * 1024)
"""
