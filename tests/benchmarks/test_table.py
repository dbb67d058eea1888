"""What README.md says of measurements is what the programs have written."""

import json
from pathlib import Path

import pytest

from benchmarks.table import HEAD, MARK, README, RESULTS, rows


def test_the_readmes_table_is_the_one_that_the_results_make() -> None:
    text = README.read_text(encoding="utf-8")
    table = text.partition(f"<!-- begin: {MARK} -->")[2].partition(f"<!-- end: {MARK} -->")[0]
    assert table.strip().splitlines() == [*HEAD, *rows()], f"write it anew: {MARK}"


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_a_headline_says_what_was_measured_on_which_machine_and_when(file: Path) -> None:
    told = json.loads(file.read_text(encoding="utf-8"))
    for line in told.get("headline", ()):
        assert {"what", "ralph"} <= line.keys() <= {"what", "ralph", "beside", "aim"}
        assert told["machine"]
        assert told["date"]


def test_a_result_without_a_headline_is_left_out_and_names_of_others_stand_beside(tmp_path: Path) -> None:
    (tmp_path / "quiet.json").write_text("{}")
    line = {"what": "idle", "ralph": "9 ms", "beside": {"one": "90 ms", "other | two": "80 ms"}, "aim": "10 ms"}
    (tmp_path / "loud.json").write_text(json.dumps({"headline": [line, {"what": "more", "ralph": "1"}]}))
    busy = {"machine": {"load": 7.5, "cores": 2}, "headline": [{"what": "most", "ralph": "2"}]}
    (tmp_path / "zealous.json").write_text(json.dumps(busy))
    assert rows(tmp_path) == [
        "| idle | 9 ms | one: 90 ms, other / two: 80 ms | 10 ms | [loud](benchmarks/results/loud.json) |",
        "| more | 1 |  |  | [loud](benchmarks/results/loud.json) |",
        "| most | 2 |  |  | [zealous](benchmarks/results/zealous.json), load 7.5 on 2 cores |",
    ]
