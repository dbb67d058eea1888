"""What people see at a terminal, and what a pipe gets."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ralph.core.views import log_view, show_view, status_view
from ralph.front import render
from tests.core.states import Story, night, small

ROOT = Path(__file__).parents[2]


def _status(story: Story, alive: bool = True) -> dict[str, Any]:
    return status_view(story.state, story.at, alive)


def test_status_says_where_the_campaign_stands() -> None:
    pairs = dict(render.status_pairs(_status(small())))
    assert pairs["phase"] == "running"
    assert pairs["campaign"] == "nov23 · charlm · val_bpb, lower is better"
    assert pairs["baseline"] == "0.9975 ± 0.0004 (2 runs)"
    assert pairs["incumbent"] == "0.9818 ± 0.0006 (#4, 1 run, 0000004)"
    assert pairs["gain"] == "−0.0157 ± 0.0007 (1.57%)"
    assert pairs["experiments"] == "6: 2 kept, 3 discarded, 1 crashed, 0 invalid, 0 void"
    assert pairs["in flight"] == "nothing"


@pytest.mark.parametrize("story", [Story(), Story().start(), Story().start().baseline(0.998)])
def test_status_has_something_to_say_from_the_start(story: Story) -> None:
    pairs = dict(render.status_pairs(_status(story)))
    assert pairs["phase"].startswith("running")
    assert all(pairs.values())


def test_the_log_has_a_line_for_every_experiment() -> None:
    cells = render.log_cells(log_view(night().state))
    assert [row[:5] for row in cells[:3]] == [
        ["0", "keep", "0.9979 (3)", "–", "–"],
        ["1", "keep", "0.9860", "−0.0119", "claude"],
        ["2", "keep", "0.9818", "−0.0043", "claude"],
    ]
    assert cells[-1][1] == "in flight"
    assert cells[6][5] == "–"


def test_show_tells_of_each_run_what_was_seen_of_its_device() -> None:
    run = {"run": 1, "seed": 5, "for_id": 2, "score": 0.5, "seconds": 30.0, "peak_bytes": 0, "crash": None}
    seen = {"others_share": 0.31, "temperature_c": 84.0, "throttled_share": 0.2, "throttled": "heat"}
    rows: list[dict[str, object]] = [
        run | {"outcome": "void", "reason": "disturbed", "device": seen},
        run | {"outcome": "ok", "reason": ""},
    ]
    cells = render.run_cells(rows)
    assert cells[0][6:] == ["others 31% · 84 °C · slowed 20% (heat)", "void disturbed"]
    assert cells[1][6] == "–"


def test_status_says_who_has_the_device_and_how_many_runs_were_disturbed() -> None:
    view = _status(small()) | {"lane_waits": "cuda:0, which pid 9 has", "disturbed_runs": 2}
    pairs = dict(render.status_pairs(view))
    assert (pairs["waiting"], pairs["disturbed"]) == ("for cuda:0, which pid 9 has", "2 runs, repeated")


def test_show_has_every_fact_once_and_nothing_empty() -> None:
    pairs = render.show_pairs(show_view(night().state, 17))
    assert ("score", "0.9743 (2)") in pairs
    assert ("lines", "+3") in pairs
    assert all(value for _, value in pairs)
    refused = render.show_pairs(show_view(night().state, 6))
    assert [name for name, _ in refused].count("refused") == 3


def test_the_live_line_names_what_is_in_flight() -> None:
    s = night()
    line = render.live_line(_status(s), s.morning)
    assert line == "01:45:35 · #21 run 3:12 (claude) · incumbent 0.9740 (#20) · 20 experiments, 5 kept"
    assert render.live_line(_status(s, alive=False), s.morning).startswith("01:45:35 · stopped: the supervisor ended")
    assert render.live_line(_status(Story().start()), s.morning) == "01:45:35 · baseline decide 0:01"


def test_what_a_stopped_loop_left_in_flight_has_no_stopwatch() -> None:
    flying = dict(render.status_pairs(_status(night(), alive=False)))["in flight"]
    assert flying == "#21 run: goes on with `ralph loop`"


def test_longer_texts_keep_their_lines_and_lose_what_moves_the_cursor() -> None:
    assert render.lines_of("\tx = 1\x1b[31m\n\x1b]0;title\x07\x1b[2J  y\r\n\u202ez") == ["    x = 1", "  y", "z"]


def test_plain_tables_are_aligned_and_uncut() -> None:
    lines = render.aligned(render.LOG_HEAD, render.log_cells(log_view(night().state)))
    assert len({line.index("why the verdict") for line in lines[:1]}) == 1
    assert any("torch.OutOfMemoryError: CUDA out of memory, tried to allocate 6.25 GiB" in line for line in lines)


def test_words_are_not_markup_for_a_colour_terminal() -> None:
    s = small()
    s.discard("[red]not red[/red] [link=http://x.y]", 0.99, reason="[bold")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=200, color_system="truecolor")
    console.print(render.table(render.LOG_HEAD, render.log_cells(log_view(s.state))))
    console.print(render.pairs_grid(render.show_pairs(show_view(s.state, 7)), "experiment 7"))
    assert stream.getvalue().count("[red]not red[/red] [link=http://x.y]") == 2
    assert "\x1b]8;" not in stream.getvalue()


PROGRAM = """
from ralph.core.views import log_view, show_view, status_view
from ralph.front import render
from tests.core.states import night
s = night()
render.print_status(status_view(s.state, s.at, True))
render.print_log(log_view(s.state))
render.print_log([])
view = {**show_view(s.state, 17), "diff": "-a\\n+b", "logs": {"run 1": "the end"}, "folder": "here"}
render.print_show(view)
"""


def _output(environment: dict[str, str]) -> tuple[str, str]:
    """What the program writes to a pipe, and what to a terminal."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "150"}
    variables.pop("NO_COLOR", None)
    variables.update(environment)
    command = [sys.executable, "-c", PROGRAM]
    piped = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, timeout=60, check=True).stdout
    leader, follower = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=follower, stderr=subprocess.PIPE) as child:
        os.close(follower)
        shown = b""
        while chunk := _read(leader):
            shown += chunk
        assert child.stderr is not None
        assert child.stderr.read() == b""
    os.close(leader)
    assert child.returncode == 0
    return piped.decode(), shown.decode()


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # Linux answers EIO once the last holder of the other end is gone
        return b""


def test_a_terminal_gets_colour_and_a_pipe_plain_text() -> None:
    piped, shown = _output({"PYTHONIOENCODING": "utf-8"})
    assert "\x1b[" not in piped
    assert "\x1b[1;32mrunning" in shown
    for fact in ("0.9740", "the end", "+b", "no experiments yet"):
        assert fact in piped
        assert fact in shown


def test_a_narrow_terminal_gets_fewer_columns_of_the_log_instead_of_letters_below_each_other() -> None:
    shown = {columns: _output({"COLUMNS": columns, "PYTHONIOENCODING": "utf-8"})[1] for columns in ("60", "150")}
    assert "why the verdict" in shown["150"]
    assert "why the verdict" not in shown["60"]
    assert "verdict" in shown["60"]


def test_no_color_is_honoured_on_a_terminal() -> None:
    _, shown = _output({"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"})
    assert "\x1b[" not in shown


def test_a_terminal_that_knows_only_ascii_gets_question_marks_and_no_error() -> None:
    piped, _ = _output({"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"})
    assert "0.9979 ? 0.0002 (3 runs)" in piped
