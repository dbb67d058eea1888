"""Secrets planted everywhere, and then looked for everywhere: real command line, real processes, real repository."""

import json
from collections.abc import Iterator

import pytest

from ralph.core.learnings import HEADING
from ralph.events import Judged, Refused
from tests.arenas import TOML, ToyArena, toy_arena
from tests.conftest import git

# Nobody's keys. What agents and runs say, by where they say it; each is another one, so that a leak can be named.
BODY = "Zq3Xv9Lm2Rt7Wb5Nc8Kd1Hf6Jg4P"
PLANTED = {
    place: f"{prefix}{BODY}{n:02d}"
    for n, (place, prefix) in enumerate(
        {
            "agent output": "sk-ant-api03-", "hypothesis": "ghp_", "expected": "hf_", "learning": "github_pat_",
            "superseded": "sk-proj-", "agent failure": "glpat-", "candidate": "gho_", "run log": "xoxb-",
            "crash": "AIza", "report": "ghs_", "config": "ghu_", "progress": "sk-", "run file": "ghr_",
        }.items()
    )
}  # fmt: skip
HUMANS = {place: f"ghp_{BODY}H{n:02d}" for n, place in enumerate(("program.md", "learnings.md", "train.py", "git log"))}
KNOWN = "a known value of no shape"  # of a variable of the supervisor
PEM = f"-----BEGIN PRIVATE KEY-----\\n{BODY * 4}\\n-----END PRIVATE KEY-----"

TRAIN = f"""\
import json, os, pathlib

API_TOKEN = "{HUMANS["train.py"]}"
LEARNING_RATE = 0.5  # per step
WIDTH = 8  # channels

out = pathlib.Path(os.environ["RALPH_RUN_DIR"])
say = lambda name: bytes(map(int, name.split())).decode()
print(os.environ["HANDED_OVER"], say("RUN LOG"))
(out / "report.json").write_text(json.dumps({{"peak_bytes": 1, "said": say("REPORT"), say("REPORT"): 1}}))
(out / "config.json").write_text(json.dumps({{"key": say("CONFIG")}}))
(out / "progress.jsonl").write_text(json.dumps({{"step": 1, "said": say("PROGRESS")}}) + "\\n")
(out / "notes.txt").write_text(say("RUN FILE"))
if WIDTH == 13:
    raise RuntimeError(f"refused {{say('CRASH')}} and {{os.environ['HANDED_OVER']}}")
print("---")
print(f"val_bpb: {{1.0 + abs(LEARNING_RATE - 0.1) + 1 / WIDTH:.6f}}")
"""
AGENT = """\
import json, os, pathlib, sys
facts = json.loads(pathlib.Path(os.environ["RALPH_FACTS"]).read_text())
id_, text = facts["id"], pathlib.Path("train.py").read_text()
print(PLANTED["agent output"], os.environ["GIVEN_TOKEN"], PEM, flush=True)
if id_ == 3:
    sys.exit("no proposal for " + PLANTED["agent failure"])
edit = {1: "WIDTH = 9", 2: "WIDTH = 13", 4: "WIDTH = 8\\nLEFT = '" + PLANTED["candidate"] + "'", 5: "WIDTH = 64"}[id_]
pathlib.Path("train.py").write_text(text.replace("WIDTH = 8", edit).replace("WIDTH = 9", edit))
pathlib.Path(os.environ["RALPH_PROPOSAL"]).write_text(json.dumps({
    "hypothesis": f"idea {id_} by {PLANTED['hypothesis']} and {os.environ['GIVEN_TOKEN']}",
    "expected": PLANTED["expected"],
    "learnings": [{"text": f"in {id_} the key was {PLANTED['learning']}", "evidence": [0]}],
    "supersedes": [PLANTED["superseded"]],
}))
"""


def spelt(train: str) -> str:
    """Secrets as numbers, so that the run says what the file does not show."""
    for place, secret in PLANTED.items():
        train = train.replace(f'"{place.upper()}"', f'"{" ".join(map(str, secret.encode()))}"')
        train = train.replace(f"'{place.upper()}'", f"'{' '.join(map(str, secret.encode()))}'")
    return train


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ToyArena:
    """A campaign of five experiments: kept, crashed, no proposal, a secret in the candidate, kept."""
    toml = TOML.replace('use = "script"', 'use = "leaky"').replace(
        'device = "none"', 'device = "none"\nenv = { HANDED_OVER = "${GIVEN_TOKEN}" }'
    )
    toml += '\n[agents.leaky]\nkind = "command"\ncommand = "python agent.py"\nenv = ["GIVEN_TOKEN"]\n'
    arena = toy_arena(tmp_path_factory.mktemp("planted") / "arena", [], toml=toml, train=spelt(TRAIN))
    (arena.root / "agent.py").write_text(f"PLANTED = {PLANTED!r}\nPEM = '{PEM}'\n{AGENT}")
    (arena.root / "program.md").write_text(f"Make val_bpb small with {HUMANS['program.md']}.\n")
    (arena.root / "learnings.md").write_text(f"# Learnings\n\n## Guidance\n\n- use {HUMANS['learnings.md']} please\n")
    git(arena.root, "add", ".")
    git(arena.root, "commit", "-q", "-m", f"An arena with {HUMANS['git log']}")
    arena.environment |= {"GIVEN_TOKEN": KNOWN, "UNUSED_API_KEY": "another known value"}
    done = arena.loop(5)
    assert done.status == 0, done
    for secret in (*PLANTED.values(), *HUMANS.values(), KNOWN, BODY):
        assert secret not in done.out + done.err
    return arena


def test_the_campaign_was_what_it_was_meant_to_be(planted: ToyArena) -> None:
    verdicts = {event.id: str(event.verdict) for event in planted.events() if isinstance(event, Judged)}
    assert verdicts == {0: "keep", 1: "keep", 2: "crash", 3: "invalid", 4: "invalid", 5: "keep"}


def written(arena: ToyArena) -> Iterator[tuple[str, bytes]]:
    """Every file below state/ but the sealed copies of the human's own, every page, and our part of learnings.md."""
    for path in (arena.root / "state").rglob("*"):
        if path.is_file() and "sealed" not in path.parts:
            yield path.relative_to(arena.root).as_posix(), path.read_bytes()
    yield "progress.md", (arena.root / "progress.md").read_bytes()
    yield "learnings.md", (arena.root / "learnings.md").read_text().partition(HEADING)[2].encode()


def in_git(arena: ToyArena) -> Iterator[tuple[str, bytes]]:
    """Every object that our refs reach and the human's do not: blobs, trees, commits with their messages, notes."""
    ours = ("--glob=refs/ralph/*", "--glob=refs/heads/ralph/*", "--glob=refs/notes/*", "--not", "refs/heads/main")
    for line in git(arena.root, "rev-list", "--objects", *ours).splitlines():
        name = line.split()[0]
        yield f"git {line}", git(arena.root, "cat-file", "-p", name).encode()


def leaks(texts: Iterator[tuple[str, bytes]], secrets: dict[str, str]) -> list[str]:
    return [
        f"{place} is in {name}"
        for name, data in texts
        for place, secret in secrets.items()
        if secret.encode() in data or json.dumps(secret)[1:-1].encode() in data
    ]


def test_no_file_that_ralph_wrote_has_any_of_them(planted: ToyArena) -> None:
    names = [name for name, _ in written(planted)]
    assert len([name for name in names if name.endswith("log.txt")]) >= 9, "logs are kept"
    assert any(name.endswith("notes.txt") for name in names), "the files of a kept run are kept"
    everything = {**PLANTED, **HUMANS, "known": KNOWN, "private key": BODY * 4}
    assert leaks(written(planted), everything) == []


def test_no_commit_message_note_or_candidate_has_any_of_them(planted: ToyArena) -> None:
    objects = list(in_git(planted))
    assert len(objects) > 10
    assert leaks(iter(objects), {**PLANTED, "known": KNOWN, "private key": BODY * 4}) == []
    said = (pair for pair in objects if b"Experiment:" in pair[1] or b"experiment:" in pair[1])
    assert leaks(said, HUMANS) == []


def test_each_brief_says_in_their_place_what_they_were(planted: ToyArena) -> None:
    brief = (planted.root / "state" / "experiments" / "000005" / "brief-1.md").read_text()
    assert "Make val_bpb small with [redacted: GitHub token]" in brief
    assert "use [redacted: GitHub token] please" in brief
    assert 'API_TOKEN = "[redacted: GitHub token]"' in brief
    assert "An arena with [redacted: GitHub token]" in brief
    assert "idea 1 by [redacted: GitHub token] and [redacted: GIVEN_TOKEN]" in brief
    assert "in 1 the key was [redacted: GitHub token]" in brief
    assert "refused [redacted: Google key] and [redacted: GIVEN_TOKEN]" in brief


def test_guidance_with_a_secret_is_new_once(planted: ToyArena) -> None:
    briefs = sorted((planted.root / "state" / "experiments").glob("*/brief-1.md"))
    assert [path.read_text().count("**NEW**") for path in briefs] == [1, 0, 0, 0, 0]


def test_a_candidate_that_adds_one_is_refused_by_file_and_line_and_not_by_value(planted: ToyArena) -> None:
    (refused,) = (event for event in planted.events() if isinstance(event, Refused) and event.id == 4)
    assert refused.reason.startswith("train.py line 6 adds a secret (GitHub token)")
    assert "+LEFT = '[redacted: GitHub token]'" in refused.diff


def test_the_humans_own_files_stay_as_they_are(planted: ToyArena) -> None:
    assert HUMANS["program.md"] in (planted.root / "program.md").read_text()
    assert HUMANS["learnings.md"] in (planted.root / "learnings.md").read_text()
    assert git(planted.root, "status", "--porcelain", "train.py", "program.md") == ""


def test_what_people_are_shown_has_none_of_them(planted: ToyArena) -> None:
    shown = [planted.ralph(*args) for args in (("status",), ("log",), ("show", "2"), ("report",), ("export",))]
    texts = ((str(n), done.out.encode()) for n, done in enumerate(shown))
    assert leaks(texts, {**PLANTED, **HUMANS, "known": KNOWN}) == []


def test_a_try_shows_none_of_them(planted: ToyArena) -> None:
    done = planted.ralph("agent", "try", "leaky", "--brief")
    assert leaks(iter([("try", (done.out + done.err).encode())]), {**PLANTED, **HUMANS, "known": KNOWN}) == []
