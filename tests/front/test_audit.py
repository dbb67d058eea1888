"""The audit end to end: real processes, a planted split that nobody may see, and kill -9 in the middle."""

import json
import re
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ralph.events import Audited, AuditStarted, Judged, Scored, SupervisorStarted
from ralph.model import Outcome, Verdict
from tests.arenas import ToyArena, edit, toy_arena
from tests.conftest import git
from tests.front.test_gated import PREPARE, SCORE, TOML, TRAIN

Left = Callable[[], list[int]]
TEXT = "a text for the audit alone"
SHOWN = re.compile(r"77\.31\d{2,}")  # what the planted audit scores look like
AUDITED_TOML = TOML.replace("[score]\n", '[score]\naudit_command = "python rescore.py"\n')
AUDIT_PREPARE = PREPARE.replace(
    "data = {", f'(folder / "audit.bin").write_text({TEXT!r})\ndata = {{"audit": {{"path": "audit.bin"}}, '
)
RESCORE = """\
import json, os, pathlib
data = pathlib.Path(os.environ["RALPH_DATA"])
text = (data.parent / json.loads(data.read_text())["audit"]["path"]).read_text()
assert text.startswith("a text for the "), text
artifact = json.loads(pathlib.Path(os.environ["RALPH_ARTIFACT"]).read_text())
print("nonce", os.urandom(8).hex())
print(json.dumps({"score": 77.31 + 0.0001 * abs(artifact["width"] - 20), "metrics": {"width": artifact["width"]}}))
"""
# Looks for the split and for its scores in all that it can read: files, environment, what it was told.
PEEK = """\
import os, pathlib, re
def peek():
    root = next(p for p in pathlib.Path.cwd().parents if (p / "state").exists())
    text = b"audit " + b"alone"
    told = [name for name in os.environ if name.startswith("RALPH_")]
    seen, found = 0, [name for name in told if re.search(r"77\\.31|audit\\.bin|AUDIT", name + os.environ[name])]
    for folder, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(folder, name)
            try:
                raw = path.read_bytes() if path.is_file() else b""
            except OSError:
                continue
            seen += 1
            here = ".git" not in path.parts and name not in ("rescore.py", "prepare.py")
            if (text in raw and here) or re.search(rb"77\\.31\\d\\d", raw) or name == "audit.bin":
                found.append(str(path.relative_to(root)))
    print("LOOKED AT", seen > 5, "AND FOUND", found, flush=True)
"""
AGENT = """\
import json, os, pathlib
import peek
peek.peek()
id_ = json.loads(pathlib.Path(os.environ["RALPH_FACTS"]).read_text())["id"]
width = {1: 12, 2: 16, 3: 5}[id_]
text = pathlib.Path("train.py").read_text()
pathlib.Path("train.py").write_text(text.replace(text[text.index("WIDTH = "):].split("  ")[0], f"WIDTH = {width}"))
pathlib.Path(os.environ["RALPH_PROPOSAL"]).write_text(json.dumps({"hypothesis": f"idea {id_}, because it is wider"}))
"""


def audited(root: Path, *, toml: str, train: str = TRAIN) -> ToyArena:
    steps = [edit("WIDTH", 12), edit("WIDTH", 5)]
    arena = toy_arena(root, steps, train=train, toml=toml)
    for name, text in (("prepare.py", AUDIT_PREPARE), ("score.py", SCORE), ("rescore.py", RESCORE)):
        (root / name).write_text(text)
    (root / "peek.py").write_text(PEEK)
    (root / "agent.py").write_text(AGENT)
    git(root, "add", ".")
    git(root, "commit", "-qm", "Scorers")
    return arena


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ToyArena:
    """A campaign of three experiments, two of them kept, whose agent and runs look around."""
    toml = AUDITED_TOML.replace('use = "script"', 'use = "curious"')
    command = json.dumps(f"{shlex.quote(sys.executable)} agent.py")
    toml += f'\n[agents.curious]\nkind = "command"\ncommand = {command}\n'
    looking = TRAIN.replace('print("distance', 'import peek\npeek.peek()\nprint("distance')
    arena = audited(tmp_path_factory.mktemp("planted") / "arena", toml=toml, train=looking)
    done = arena.loop(3)
    assert done.status == 0, done
    assert not SHOWN.search(done.out + done.err), "the terminal shows no score of an audit"
    return arena


def audits(arena: ToyArena) -> list[Audited]:
    return [event for event in arena.events() if isinstance(event, Audited)]


def test_the_artifacts_of_what_was_kept_are_audited_from_the_sealed_copy(planted: ToyArena) -> None:
    events = planted.events()
    verdicts = {e.id: e.verdict for e in events if isinstance(e, Judged)}
    assert verdicts == {0: Verdict.KEEP, 1: Verdict.KEEP, 2: Verdict.KEEP, 3: Verdict.DISCARD}
    runs = {(e.id, e.run) for e in events if isinstance(e, Scored) and e.id != 3}
    assert {(e.id, e.run) for e in audits(planted)} == runs
    assert {e.id: e.score for e in audits(planted)} == pytest.approx({0: 77.3112, 1: 77.3108, 2: 77.3104})
    assert all(e.outcome is Outcome.OK for e in audits(planted))


def test_the_page_says_that_the_gain_is_not_there_on_the_audit_split(planted: ToyArena) -> None:
    page = (planted.root / "progress.md").read_text()
    assert "the campaign is over-fitting the validation set" in page
    found = planted.json("status")["audit"]
    assert found == {
        "keeps": 2,
        "search_gain": pytest.approx(8.0),
        "audit_gain": pytest.approx(0.0008),
        "se": 0.0,
        "finding": "overfitting",
    }


def read_by_agents_and_people(arena: ToyArena) -> Iterator[tuple[str, str]]:
    """All that is written beside the ledger, its index and the audits' own kill domains, and what the commands show."""
    for path in arena.root.rglob("*"):
        own = path.name in ("ledger.jsonl", "snapshot") or any(part.startswith("audit-") for part in path.parts)
        if path.is_file() and not own:
            yield path.relative_to(arena.root).as_posix(), path.read_bytes().decode(errors="replace")
    for command in (["log"], ["log", "--json"], ["show", "0", "--json"], ["show", "2", "--json"], ["show", "2"]):
        yield " ".join(command), arena.ralph(*command).out
    yield "status", arena.ralph("status").out + arena.ralph("status", "--json").out
    yield "export", arena.ralph("export").out
    yield "recall", arena.ralph("recall", "audit wider idea").out
    yield "git", git(arena.root, "log", "--all", "-p", "--notes=*", "--", ":!rescore.py")
    yield "notes", git(arena.root, "log", "--all", "--notes=*")


def test_no_score_of_the_audit_is_in_anything_that_is_read_of_an_experiment(planted: ToyArena) -> None:
    places = dict(read_by_agents_and_people(planted))
    assert "experiments/000002/brief-1.md" in " ".join(places)
    assert [name for name, text in places.items() if SHOWN.search(text)] == []
    state = {name: text for name, text in places.items() if name.startswith("state/")}
    assert [name for name, text in state.items() if TEXT in text and "sealed" not in name] == [
        "state/data/numbers/audit.bin"
    ]
    told = [text for name, text in places.items() if re.search(r"brief|facts|history|results|data\.json$", name)]
    assert len(told) > 6
    assert [t for t in told if "audit" in t.lower() and '"schema"' not in t] == []


def test_neither_a_run_nor_an_agent_finds_the_split_or_its_scores(planted: ToyArena) -> None:
    """At level bwrap; the test says so where that is not reached."""
    if not any(isinstance(e, SupervisorStarted) and e.sandbox == "bwrap" for e in planted.events()):
        pytest.skip("this machine does not reach sandbox level bwrap")
    logs = sorted((planted.root / "state" / "experiments").glob("*/[ar]*-*/log.txt"))
    lookers = [path.read_text() for path in logs if not path.parent.name.startswith("audit")]
    assert len(lookers) > 6
    assert {line for text in lookers for line in text.splitlines() if line.startswith("LOOKED")} == {
        "LOOKED AT True AND FOUND []"
    }


def gone(left: Left, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not left()


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("audit_started:2", marks=pytest.mark.slow),
        pytest.param("audited-unrecorded:1", marks=pytest.mark.slow),
        pytest.param("audited:3", marks=pytest.mark.slow),
        pytest.param("audited-unrecorded:4", marks=pytest.mark.slow),
    ],
)
def test_killed_during_an_audit_a_restart_repeats_what_was_cut_short_and_nothing_else(
    point: str, tmp_path: Path, marked: Left
) -> None:
    arena = audited(tmp_path / "arena", toml=AUDITED_TOML)
    assert arena.loop(1, RALPH_CRASH_AT=point).status == -signal.SIGKILL
    assert gone(marked), "what the dead supervisor had started is gone by itself"
    before = nonces(arena)
    done = arena.loop(1)
    assert done.status == 0, done
    runs = Counter((e.id, e.run) for e in audits(arena))
    scored = {(e.id, e.run) for e in arena.events() if isinstance(e, Scored)}
    assert runs == Counter(scored), "each once"
    assert all(e.attempt == 1 for e in arena.events() if isinstance(e, AuditStarted))
    if point.startswith("audited"):
        assert before.items() <= nonces(arena).items(), "one that had finished was not begun anew"


def nonces(arena: ToyArena) -> dict[str, str]:
    found = (arena.root / "state" / "experiments").rglob("audit-*/log.txt")
    return {str(path): text for path in found if "nonce" in (text := path.read_text())}
