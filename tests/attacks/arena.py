"""The arena that is attacked: gated, scored by a program of its own, small limits; agent and candidate carry code."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ralph.adapters.sandbox import SandboxLevel
from tests.arenas import ToyArena, toy_arena
from tests.attacks.catalogue import Attack, Side
from tests.conftest import git

SECRET = "the secret"
HONEST_WIDTH, EVIL_WIDTH, BASE_WIDTH = 12, 1, 8  # score: how far the width is from 20
TOML = """\
[arena]
name = "attacked"
metric = "distance"
editable = ["train.py"]

[run]
command = "python train.py"
gate = true
budget_s = 0.3
setup_s = 5
export_s = 1.5
grace_s = 0.2
device = "none"

[data]
command = "python prepare.py"

[score]
mode = "command"
command = "python score.py"
bounds = [0.0, 100.0]
timeout_s = 4

[keep]
max_runs = 1

[agent]
use = "evil"
timeout_s = 6
repairs = 0

[agents.evil]
kind = "command"
command = "python -B {agent}"

[limits]
memory_gb = 0.4
processes = 60
open_files = 200
log_mb = 1
disk_gb = 0.05

[sandbox]
level = "{level}"
"""
PREPARE = """\
import json, os, pathlib
folder = pathlib.Path(os.environ["RALPH_DATA_DIR"], "numbers")
folder.mkdir(parents=True, exist_ok=True)
(folder / "train.bin").write_text("the training text")
(folder / "val.bin").write_text("the secret")
data = {"schema": 1, "name": "numbers", "sha256": "ab" * 32, "train": {"path": "train.bin", "tokens": 17},
        "val": {"path": "val.bin"}, "token_bytes": "token_bytes.npy"}
(folder / "data.json").write_text(json.dumps(data))
print(folder / "data.json")
"""
SCORE = """\
import json, os, pathlib
data = pathlib.Path(os.environ["RALPH_DATA"])
assert (data.parent / json.loads(data.read_text())["val"]["path"]).read_text() == "the secret"
artifact = json.loads(pathlib.Path(os.environ["RALPH_ARTIFACT"]).read_text())
assert artifact["text"] == "the training text"
print(json.dumps({"score": abs(artifact["width"] - 20)}))
"""
PRELUDE = """\
import json, os, pathlib, socket, subprocess, sys, time
ROOT, TOKEN, PORT = pathlib.Path({root!r}), {token!r}, {port}
STATE = ROOT / "state"
def supervisor():
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(ROOT).encode() in path.read_bytes() and b"\\0loop\\0" in path.read_bytes():
                return int(path.parent.name)
        except OSError:
            continue
    return 2**22 - 1
PID = supervisor()
def breach(*words): os.write(1, ("BREACH " + " ".join(map(str, words)) + "\\n").encode())
"""
TRAIN = """\
import json, os, pathlib, socket
WIDTH = 8  # channels
NOTE = 0
out = pathlib.Path(os.environ["RALPH_RUN_DIR"])
gun = socket.socket(fileno=int(os.environ["RALPH_GUN_FD"]))
gun.send(json.dumps({"ready": {}}).encode())
message, fds, _, _ = socket.recv_fds(gun, 65536, 4)
text = os.read(fds[0], 100).decode()
gun.send(json.dumps({"stopped": {"steps": 1}}).encode())
pathlib.Path(os.environ["RALPH_ARTIFACT"]).write_text(json.dumps({"width": WIDTH, "text": text}))
"""
AGENT = """\
import json, os, pathlib
plan = json.loads(pathlib.Path(__file__).with_name("plan.json").read_text())
facts = json.loads(pathlib.Path(os.environ["RALPH_FACTS"]).read_text())
step = plan[min(facts["id"], len(plan)) - 1]
proposal = pathlib.Path(os.environ["RALPH_PROPOSAL"])
exec(compile(step["prelude"] + step["code"], "attack", "exec"))
if step["train"] is not None:
    pathlib.Path("train.py").write_text(step["train"])
if not proposal.exists():
    proposal.parent.mkdir(exist_ok=True)
    proposal.write_text(json.dumps({"hypothesis": f"step {facts['id']}"}))
exec(compile(step["later"], "attack", "exec"))
"""


def train(width: int, note: int, code: str = "", later: str = "") -> str:
    text = TRAIN.replace("WIDTH = 8", f"WIDTH = {width}").replace("NOTE = 0", f"NOTE = {note}")
    return f"{code}\n{text}\n{later}\n"


@contextmanager
def attacked(root: Path, level: SandboxLevel, attacks: Sequence[Attack | None], token: str) -> Iterator[ToyArena]:
    """The arena, its agent prepared to carry out these attacks one by one; None is an honest experiment."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_answer, args=(server,), daemon=True).start()
    try:
        arena = toy_arena(root, [], train=TRAIN, toml="[arena]\n")
        prelude = PRELUDE.format(root=str(root), token=token, port=server.getsockname()[1])
        plan = [_step(number, attack, prelude) for number, attack in enumerate(attacks, start=1)]
        home = root / "agent"
        home.mkdir()
        (home / "agent.py").write_text(AGENT)
        (home / "plan.json").write_text(json.dumps(plan))
        quoted = json.dumps(f"'{home / 'agent.py'}'")[1:-1]
        (root / "arena.toml").write_text(TOML.format(agent=quoted, level=level))
        (root / "prepare.py").write_text(PREPARE)
        (root / "score.py").write_text(SCORE)
        (root / "notes.txt").write_text("mine\n")
        git(root, "add", ".")
        git(root, "commit", "-qm", "attacked")
        arena.environment["OPENAI_API_KEY"] = f"sk-planted-{token}"
        yield arena
    finally:
        server.shutdown(socket.SHUT_RDWR)  # closing alone leaves the thread waiting
        server.close()


def _step(number: int, attack: Attack | None, prelude: str) -> dict[str, object]:
    step: dict[str, object] = {"prelude": "", "code": "", "later": ""}
    if attack is None:
        return {**step, "train": train(HONEST_WIDTH, number)}
    if attack.side is Side.RUN:
        return {**step, "train": train(EVIL_WIDTH, number, prelude + attack.code, attack.later)}
    plain = train(EVIL_WIDTH, number)
    return {"prelude": prelude, "code": attack.code, "later": attack.later, "train": plain}


def _answer(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()
