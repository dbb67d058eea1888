"""The table of docs/isolation.md is what the drills found, and has a line for each."""

import json
import re
from pathlib import Path

from drills import crashes, survivors
from drills.catalogue import DRILLS
from drills.table import PAGE, read, render
from ralph.adapters.sandbox import SandboxLevel
from tests.attacks.agents import AGENTS
from tests.attacks.runs import RUNS

TESTS = Path(__file__).parent.parent


def test_the_page_says_what_the_drills_found() -> None:
    assert f"\n{render(read())}\n" in PAGE.read_text(encoding="utf-8"), "run `make drills`"


def test_the_page_says_who_survived() -> None:
    results = json.loads(survivors.RESULTS.read_text(encoding="utf-8"))
    rows = results["rows"]
    assert f"\n{survivors.render(results['machine'], rows)}\n" in PAGE.read_text(encoding="utf-8")
    assert {row["survivors"] for row in rows} == {0}
    assert min(row["kills"] for row in rows) >= 1000


def test_the_page_says_what_kills_of_the_supervisor_cost() -> None:
    results = json.loads(crashes.RESULTS.read_text(encoding="utf-8"))
    row = results["row"]
    assert f"\n{crashes.render(results['machine'], row)}\n" in PAGE.read_text(encoding="utf-8")
    assert (row["other verdicts"], row["runs repeated"], row["torn files"]) == (0, 0, 0)
    assert row["kills"] >= 1000


def test_every_drill_and_attack_has_a_line_and_none_was_broken() -> None:
    rows = read()["rows"]
    names = [*(drill.name for drill in DRILLS), *(attack.name for attack in (*RUNS, *AGENTS))]
    assert [row["name"] for row in rows] == names, "run `make drills`"
    assert [row["name"] for row in rows if "BROKEN" in row["levels"].values()] == []


def test_every_line_claims_what_its_drill_covers() -> None:
    covered = [drill.levels for drill in DRILLS] + [attack.covered for attack in (*RUNS, *AGENTS)]
    for row, levels in zip(read()["rows"], covered, strict=True):
        assert {level for level in SandboxLevel if row["levels"][level] != "not covered"} == levels, row


def test_every_test_that_the_table_names_exists() -> None:
    for test in {row["test"] for row in read()["rows"]}:
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE), test
