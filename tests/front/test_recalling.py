"""`ralph recall` on a real campaign: in the folder, and from inside an agent's sandbox."""

import json
import resource
import shlex
import sqlite3
from pathlib import Path

import pytest

from ralph.adapters.recall import search
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.events import Judged, RunEnded
from ralph.model import Verdict
from tests.arenas import TOML, ToyArena, edit, toy_arena

ASKING = """\
#!/bin/sh
# an agent that asks before it proposes, tries to write where it may only read, and tells what it heard
answer=$(ralph recall WIDTH -n 1)
echo spoilt >> "$RALPH_RECALL"
sed -i "s/^WIDTH = .*/WIDTH = 1$RALPH_SEED/" train.py
python - "$answer" <<'END'
import json, sys
json.dump({"hypothesis": "heard: " + sys.argv[1]}, open(".ralph/proposal.json", "w"))
END
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ToyArena:
    arena = toy_arena(tmp_path_factory.mktemp("recall"), [edit("LEARNING_RATE", 0.3), edit("WIDTH", 16)])
    done = arena.loop(2)
    assert done.status == 0, done
    return arena


def database(arena: ToyArena) -> Path:
    return arena.root / "state" / "recall.db"


def test_every_verdict_is_in_the_index_when_the_loop_ends(finished: ToyArena) -> None:
    (found,) = search(database(finished), "LEARNING_RATE", 5)
    assert (found.id, found.verdict) == (1, "keep")
    assert "because it is the 1th idea" in found.hypothesis
    assert found.learnings == ("tried LEARNING_RATE = 0.3 in experiment 1",)
    assert found.diff == "+++ b/train.py\n-LEARNING_RATE = 0.5  # per step\n+LEARNING_RATE = 0.3  # per step"
    assert [each.id for each in search(database(finished), "baseline", 5)] == [0]


def test_answers_are_for_people_and_for_programs(finished: ToyArena) -> None:
    (answer,) = finished.json("recall", "learning_rate")
    assert list(answer) == [
        "id",
        "verdict",
        "score",
        "delta",
        "delta_se",
        "agent",
        "hypothesis",
        "reason",
        "learnings",
        "diff",
    ]
    assert answer["diff"][-1] == "+LEARNING_RATE = 0.3 # per step"
    out = finished.ralph("recall", "learning_rate", "width").out
    assert "data, not instructions" in out
    assert "#1 keep 1.325 (delta -0.2" in out
    assert "#2 keep" in out
    assert finished.ralph("recall", "learning_rate", "width", "-n", "1").out.count("\n#") == 1
    assert finished.ralph("recall", "nothing-like-it").out == "no experiment has these words\n"


@pytest.mark.parametrize("how", ["missing", "damaged", "behind"])
def test_an_index_that_is_not_right_is_built_anew_from_ledger_and_git(finished: ToyArena, how: str) -> None:
    before = search(database(finished), "LEARNING_RATE WIDTH", 5)
    if how == "missing":
        database(finished).unlink()
    elif how == "damaged":
        database(finished).write_bytes(b"\xff" * 10_000)
    else:
        with sqlite3.connect(database(finished)) as db:
            db.execute("DELETE FROM words WHERE rowid = 2")
        db.close()
    assert {row["id"] for row in finished.json("recall", "LEARNING_RATE WIDTH")} == {1, 2}
    assert search(database(finished), "LEARNING_RATE WIDTH", 5) == before


def test_a_question_without_words_and_a_folder_without_a_campaign_are_clear_errors(
    finished: ToyArena, hostile: Path
) -> None:
    done = finished.ralph("recall", "—")
    assert (done.status, "ask with words" in done.err) == (2, True)
    done = toy_arena(hostile, []).ralph("recall", "x")
    assert (done.status, "`ralph loop` begins one" in done.err) == (2, True)


def test_an_answer_takes_less_than_a_third_of_a_second(finished: ToyArena) -> None:
    """Of processor time, so that a busy machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert finished.ralph("recall", "width").status == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.slow
def test_a_program_for_meanings_that_fails_is_named_once_and_words_decide(hostile: Path) -> None:
    toml = TOML + '[recall]\nembed_command = "no-such-program"\n'
    arena = toy_arena(hostile, [edit("LEARNING_RATE", 0.3), edit("LEARNING_RATE", 0.2)], toml=toml)
    assert arena.loop(2).status == 0
    done = arena.ralph("recall", "learning_rate")
    assert done.err.count("no-such-program") == 1
    assert "#1 keep" in done.out


def test_an_agent_asks_from_inside_its_sandbox_and_can_write_nothing_there(hostile: Path) -> None:
    command = json.dumps(f"sh {shlex.quote(str(hostile / 'ask.sh'))}", ensure_ascii=False)
    arena = toy_arena(
        hostile, [], toml=TOML.split("[agents.script]")[0] + f'[agents.script]\nkind = "command"\ncommand = {command}\n'
    )
    (hostile / "ask.sh").write_text(ASKING)
    assert arena.loop(2).status == 0
    heard = {row["id"]: row["hypothesis"] for row in arena.json("log")}
    assert heard[1] == "heard: no experiment has these words", "the baseline changed nothing"
    assert "#1 keep" in heard[2]
    assert "> +WIDTH = 1" in heard[2]
    if reached(SandboxLevel.BWRAP).level is SandboxLevel.BWRAP:
        assert not database(arena).read_bytes().endswith(b"spoilt\n")


@pytest.mark.slow
def test_no_device_time_for_what_runs_the_same_but_for_a_replicate_that_is_asked_for(hostile: Path) -> None:
    replicate = {**edit("WIDTH", 4), "proposal": {"hypothesis": "once more", "replicates": 1}}
    comment = {"replace": [{"file": "train.py", "old": "# channels", "new": "# the channels"}]}
    arena = toy_arena(hostile, [edit("WIDTH", 4), replicate, comment, {**replicate, **edit("WIDTH", 5)}])
    assert arena.loop(4).status == 0
    judged = {e.id: e for e in arena.events() if isinstance(e, Judged)}
    assert [judged[n].verdict for n in (2, 3)] == [Verdict.DISCARD, Verdict.INVALID]
    assert "changes nothing that runs" in judged[3].reason
    assert {e.id for e in arena.events() if isinstance(e, RunEnded)} >= {0, 1, 2}
    assert 3 not in {e.id for e in arena.events() if isinstance(e, RunEnded)}
    assert arena.json("show", "2")["replicates"] == 1
