"""The whole thing: the real command line, real processes, a real repository, in a folder with a hostile name."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.events import AgentEnded, Judged, Refused, RunEnded
from ralph.model import CrashKind, Verdict
from tests.arenas import TOML, TRAIN, ToyArena, edit, relieved, story, toy_arena
from tests.conftest import HOSTILE, git

Left = Callable[[], list[int]]
TWENTY = [edit("LEARNING_RATE", round(0.5 - 0.03 * n, 3)) if n % 3 else edit("WIDTH", 8 - n % 5) for n in range(1, 21)]


def verdicts(arena: ToyArena) -> dict[int, Verdict]:
    return {e.id: e.verdict for e in arena.events() if isinstance(e, Judged)}


def reasons(arena: ToyArena) -> dict[int, str]:
    return {e.id: e.reason for e in arena.events() if isinstance(e, Judged)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ToyArena:
    """A campaign of twenty experiments, from an empty state/ to verdicts, that several tests only look at."""
    folder = tmp_path_factory.mktemp("finished") / HOSTILE
    arena = toy_arena(folder, TWENTY)
    (folder / "mine.txt").write_text("untracked\n")
    began = time.monotonic()
    done = arena.loop(20)
    assert done.status == 0, done
    assert "20 experiments are done" in done.out
    assert time.monotonic() - began < 60, "twenty trivial experiments take seconds"
    return arena


def test_twenty_experiments_from_an_empty_state_to_verdicts(finished: ToyArena) -> None:
    assert sum(v is Verdict.KEEP for i, v in verdicts(finished).items() if i) >= 5
    assert len(verdicts(finished)) == 21
    assert git(finished.root, "status", "--porcelain").splitlines() == [
        "M learnings.md", " M progress.md", "?? mine.txt",
    ]  # fmt: skip


def test_every_experiment_has_its_ref_note_brief_and_row(finished: ToyArena) -> None:
    campaign = finished.json("status")["campaign"]
    refs = git(finished.root, "for-each-ref", "--format=%(refname)", f"refs/ralph/{campaign}/experiments").split()
    committed = [row["id"] for row in finished.json("log") if row["commit"]]
    assert len(committed) >= 20, "all but a repetition"
    assert sorted(int(ref.rpartition("/")[2]) for ref in refs) == committed
    shown = git(finished.root, "log", "--notes=ralph", f"ralph/{campaign}")
    assert shown.count("experiment: ") == 1 + sum(v is Verdict.KEEP for i, v in verdicts(finished).items() if i)
    rows = (finished.root / "state" / "results.tsv").read_text().splitlines()
    assert rows[0].split("\t")[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(rows) == 22
    for number in range(1, 21):
        assert (
            "Make val_bpb small." in (finished.root / "state/experiments" / f"{number:06d}" / "brief-1.md").read_text()
        )


def test_status_and_log_answer_as_promised(finished: ToyArena) -> None:
    status = finished.json("status")
    assert set(status) == {
        "campaign", "phase", "reason", "arena", "baseline", "incumbent", "noise", "audit", "experiments", "verdicts",
        "in_flight", "time_s", "cost", "spent", "waiting", "lane_waits", "lanes", "disturbed_runs",
        "staleness",
    }  # fmt: skip
    assert (status["phase"], status["experiments"], status["in_flight"]) == ("stopped", 20, [])
    assert set(status["arena"]) == {"name", "metric", "direction", "hash", "device"}
    assert set(status["time_s"]) == {"run", "score", "agent", "idle", "overhead"}
    log = finished.json("log")
    assert [row["id"] for row in log] == list(range(21))
    assert set(log[1]) == {
        "id", "verdict", "reason", "scores", "delta", "hypothesis", "agent", "base", "commit", "ref", "started",
        "ended", "run_s", "agent_s", "usd",
    }  # fmt: skip
    assert git(finished.root, "rev-parse", log[1]["ref"]) == log[1]["commit"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("status",), "incumbent"),
        (("log",), "LEARNING_RATE"),
        (("show", "1"), "LEARNING_RATE"),
        (("diff", "1"), "+LEARNING_RATE"),
        (("recall", "learning"), "LEARNING_RATE"),
        (("report",), "val_bpb"),
        (("export",), '"schema": 1'),
        (("check",), "The five requirements"),
    ],
)
def test_every_looking_command_looks(finished: ToyArena, command: tuple[str, ...], words: str) -> None:
    done = finished.ralph(*command)
    assert done.status == 0, done
    assert words in done.out


def test_a_number_that_is_no_experiment_is_a_clear_error(finished: ToyArena) -> None:
    done = finished.ralph("show", "99")
    assert (done.status, done.err) == (2, "ralph: there is no experiment 99; known: 0 to 20\n")


def test_a_limit_that_is_reached_ends_at_once(finished: ToyArena) -> None:
    before = len(finished.events())
    assert finished.loop(20).status == 0
    assert len(finished.events()) == before + 2


def test_learnings_are_appended_and_the_humans_bytes_stay(finished: ToyArena) -> None:
    text = (finished.root / "learnings.md").read_text()
    assert text.startswith("# Learnings\n\n## Guidance\n\n- mine\n")
    assert "tried LEARNING_RATE" in text


def test_what_was_learnt_and_decided_is_in_the_next_brief(finished: ToyArena) -> None:
    brief = (finished.root / "state" / "experiments" / "000006" / "brief-1.md").read_text()
    assert "mine" in brief
    assert "tried LEARNING_RATE" in brief
    assert "keep" in brief


MISBEHAVIOURS: dict[str, tuple[dict[str, object], str]] = {
    "edits prepare.py": ({"write": {"prepare.py": "FIXED = False\n"}}, "changed 'prepare.py'"),
    "edits arena.toml": ({"write": {"arena.toml": ""}}, "changed 'arena.toml'"),
    "deletes files": ({"delete": ["program.md"]}, "changed 'program.md'"),
    "commits by itself": ({**edit("WIDTH", 9), "commit": "mine"}, "committed|git"),
    "writes no proposal": ({"constants": {"train.py:WIDTH": 9}, "proposal_none": True}, "wrote no"),
    "writes a malformed proposal": ({"constants": {"train.py:WIDTH": 9}, "proposal_text": "{"}, "not usable"),
    "proposes without a hypothesis": ({"constants": {"train.py:WIDTH": 9}, "proposal": {"expected": 1}}, "hypothesis"),
    "changes nothing": ({"proposal": {"hypothesis": "nothing"}}, "nothing was changed"),
    "breaks the syntax": ({"write": {"train.py": "def (:\n"}}, "does not parse"),
    "crashes": ({"crash": True, "proposal_none": True}, "wrote no"),
}


@pytest.mark.slow
def test_an_agent_that_breaks_a_rule_is_invalid_with_the_reason(hostile: Path, marked: Left) -> None:
    script, numbers = relieved([step for step, _ in MISBEHAVIOURS.values()])
    arena = toy_arena(hostile, script, toml=TOML + '[sandbox]\nlevel = "none"\n')
    done = arena.loop(len(script))
    assert done.status == 0, done
    for number, (how, (_, reason)) in zip(numbers, MISBEHAVIOURS.items(), strict=True):
        assert verdicts(arena)[number] is Verdict.INVALID, how
        assert any(words in reasons(arena)[number] for words in reason.split("|")), (how, reasons(arena)[number])
    assert not [e for e in arena.events() if isinstance(e, RunEnded) and e.id in numbers], (
        "no device time was spent on them"
    )
    assert (arena.root / "prepare.py").read_text() == "FIXED = True\n"
    assert marked() == []


def test_nothing_that_an_agent_starts_outlives_it(hostile: Path, marked: Left) -> None:
    step = {**edit("WIDTH", 9), "daemons": [{"seconds": 300, "ignore_term": True}] * 3, "ignore_term": True}
    arena = toy_arena(hostile, [step])
    assert arena.loop(1).status == 0
    assert verdicts(arena)[1] is Verdict.KEEP
    assert marked() == []


@pytest.mark.slow
def test_an_agent_without_an_end_is_ended_by_its_clock(hostile: Path, marked: Left) -> None:
    step = {"sleep_s": 300, "ignore_term": True, "proposal_none": True}
    arena = toy_arena(hostile, [step], toml=TOML.replace("timeout_s = 20", "timeout_s = 1"))
    assert arena.loop(1).status == 0
    assert "were over" in reasons(arena)[1]
    assert marked() == []


CRASHES = {
    "raise ValueError('no such width')": (CrashKind.EXCEPTION, "no such width"),
    "raise MemoryError": (CrashKind.OUT_OF_MEMORY, "MemoryError"),
    "print('---'); print('val_bpb: nan')": (CrashKind.NAN, "nan"),
    "print('done')": (CrashKind.NO_SCORE, "does not end with"),
    "print('---'); print('val_bpb: 0.0')": (CrashKind.NO_SCORE, "exactly 0"),
    "import os; os.kill(os.getpid(), 11)": (CrashKind.KILLED, "signal 11"),
}


def test_crashes_are_typed_and_their_log_is_in_the_next_brief(hostile: Path, marked: Left) -> None:
    """A run that prints 0.0, or writes score files of its own, gets no keep."""
    writes = "import pathlib, os\nfor n in ('score.json', 'val_bpb', 'exit.json', '../exit.json'):\n"
    writes += "    try: pathlib.Path(os.environ['RALPH_RUN_DIR'], n).write_text('{\"ok\": true, \"score\": 0.1}')\n"
    writes += "    except OSError: pass\n"
    script, numbers = relieved([{"write": {"train.py": f"{writes}{line}\n"}} for line in CRASHES])
    arena = toy_arena(hostile, script)
    assert arena.loop(len(script)).status == 0
    found = {e.id: e for e in arena.events() if isinstance(e, Judged)}
    for number, (line, (kind, words)) in zip(numbers, CRASHES.items(), strict=True):
        assert (found[number].verdict, found[number].crash) == (Verdict.CRASH, kind), (line, found[number])
        assert words in found[number].reason
    brief = (arena.root / "state" / "experiments" / "000002" / "brief-1.md").read_text()
    assert "ValueError: no such width" in brief
    assert marked() == []


def test_a_run_without_an_end_is_ended_by_its_deadline(hostile: Path, marked: Left) -> None:
    toml = TOML.replace("budget_s = 20", "budget_s = 1\nsetup_s = 0.5\nexport_s = 0\ngrace_s = 0")
    steps = [{"write": {"train.py": "import time\ntime.sleep(300)\n"}}]
    arena = toy_arena(hostile, steps, toml=toml)
    assert arena.loop(1).status == 0
    assert "did not end within" in reasons(arena)[1]
    assert marked() == []


def test_a_refused_proposal_goes_to_a_fresh_agent_with_the_reason(hostile: Path) -> None:
    bad = {"write": {"prepare.py": "FIXED = False\n"}}
    arena = toy_arena(hostile, [[bad, edit("WIDTH", 9)]], toml=TOML.replace("repairs = 0", "repairs = 2"))
    assert arena.loop(1).status == 0
    assert verdicts(arena)[1] is Verdict.KEEP
    assert [e.attempt for e in arena.events() if isinstance(e, AgentEnded)] == [1, 2]
    assert len([e for e in arena.events() if isinstance(e, Refused)]) == 1
    assert "changed 'prepare.py'" in (arena.root / "state/experiments/000001/brief-2.md").read_text()


@pytest.mark.slow
def test_guidance_edited_while_the_loop_rests_is_in_the_next_brief_and_marked_new(hostile: Path) -> None:
    arena = toy_arena(hostile, TWENTY)
    assert arena.loop(1).status == 0
    assert arena.ralph("note", "leave the width alone").status == 0
    assert arena.loop(3).status == 0
    briefs = [(arena.root / f"state/experiments/{n:06d}/brief-1.md").read_text() for n in (1, 2, 3)]
    assert ["leave the width alone" in brief for brief in briefs] == [False, True, True]
    first = {n: brief.index("leave the width alone") for n, brief in zip((2, 3), briefs[1:], strict=True)}
    assert "NEW" in briefs[1][max(0, first[2] - 400) : first[2] + 100].upper()
    assert first[2] < first[3], "what is new comes first"


@pytest.mark.slow
def test_a_loop_goes_on_where_it_was_and_a_new_campaign_begins_anew(hostile: Path) -> None:
    arena = toy_arena(hostile, TWENTY)
    assert arena.loop(1).status == 0
    first = arena.json("status")["campaign"]
    assert arena.loop(2).status == 0
    assert [e.id for e in arena.events() if isinstance(e, Judged)] == [0, 1, 2]
    done = arena.ralph("loop", "--max-experiments", "0", "--new")
    assert done.status == 0, done
    assert arena.json("status")["campaign"] == f"{first}-2"
    assert (arena.root / "state" / "archive" / first / "ledger.jsonl").exists()


def test_a_changed_arena_is_refused_with_what_changed(hostile: Path) -> None:
    arena = toy_arena(hostile, TWENTY)
    assert arena.loop(0).status == 0
    text = (arena.root / "arena.toml").read_text()
    (arena.root / "arena.toml").write_text(text.replace("budget_s = 20", "budget_s = 21"))
    done = arena.loop(2)
    assert done.status == 2
    assert "budget_s: 20 → 21" in done.err
    assert "ralph loop --new" in done.err


def test_a_baseline_that_does_not_run_is_a_configuration_error_that_says_why(hostile: Path) -> None:
    arena = toy_arena(hostile, TWENTY, train="import no_such_module\n")
    done = arena.loop(1)
    assert done.status == 2, done
    assert "No module named 'no_such_module'" in done.out + done.err
    (arena.root / "train.py").write_text(TRAIN)
    git(arena.root, "commit", "-qam", "mend")
    assert arena.loop(0).status == 0


def test_uncommitted_changes_of_the_arena_are_named_before_a_campaign_begins(hostile: Path) -> None:
    arena = toy_arena(hostile, TWENTY)
    (arena.root / "train.py").write_text(TRAIN + "\n")
    done = arena.loop(1)
    assert done.status == 2
    assert "not committed: train.py" in done.err


@pytest.mark.slow
def test_a_change_that_was_tried_already_costs_no_device_time(hostile: Path) -> None:
    arena = toy_arena(hostile, [edit("WIDTH", 4), edit("WIDTH", 16), edit("WIDTH", 4), edit("WIDTH", 8)])
    assert arena.loop(4).status == 0
    assert [verdicts(arena)[n] for n in (1, 2)] == [Verdict.DISCARD, Verdict.KEEP]
    assert "the same program as experiment #1, which was discard" in reasons(arena)[3]
    assert '"replicates": 1' in reasons(arena)[3]
    assert "the same program as experiment #0, which was keep" in reasons(arena)[4]
    assert not [e for e in arena.events() if isinstance(e, RunEnded) and e.id in (3, 4)]


def test_words_that_the_terminal_has_no_letters_for_do_not_end_the_loop(tmp_path: Path) -> None:
    step = {**edit("WIDTH", 9), "proposal": {"hypothesis": "ширина 9 → больше, because of 学习率"}}
    arena = toy_arena(tmp_path / "arena", [step])
    done = arena.loop(1, PYTHONIOENCODING="ascii")
    assert done.status == 0, done
    assert "?????? 9 ? ??????, because of ???" in done.out


@pytest.mark.slow
def test_two_runs_of_the_same_script_tell_the_same_story(tmp_path: Path) -> None:
    first, second = (toy_arena(tmp_path / name, TWENTY[:2]) for name in ("a", "b"))
    assert first.loop(2).status == second.loop(2).status == 0
    assert story(first.events()) == story(second.events())


def test_init_makes_an_arena_of_an_autoresearch_style_repository_that_runs_unchanged(
    hostile: Path, marked: Left
) -> None:
    repo = toy_arena(hostile, TWENTY).root
    for name in ("arena.toml", "script.jsonl", "progress.md", "learnings.md"):
        (repo / name).unlink()
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "as autoresearch has it")
    arena = ToyArena(root=repo)
    argv = ["init", str(repo), "--command", "python train.py", "--metric", "val_bpb", "--editable", "train.py"]
    done = arena.ralph(*argv)
    assert done.status == 0, done
    assert json.loads(json.dumps(done.out))
    assert arena.ralph(*argv).status == 2, "what is there is not overwritten"
    done = arena.loop(2)
    assert done.status == 0, done
    assert set(verdicts(arena)) == {0, 1, 2}
    assert marked() == []
