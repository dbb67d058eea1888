import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ralph.adapters.drawing import NICENESS, Drawing
from ralph.adapters.process import Child, Command, spawn
from ralph.core.picture import picture_data
from tests.core.states import Story, small

WATCHED = """
import os, pathlib, sys, time
data, out = map(pathlib.Path, sys.argv[1:])
seen = data.read_text()
with open(out, "a") as file: print(seen, os.nice(0), file=file)
while not pathlib.Path(str(out) + ".go").exists(): time.sleep(0.005)
"""


class Programs:
    """Starts a program that the test can follow in place of the real one; counts how many."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def __call__(self, command: Command) -> Child:
        self.commands.append(command)
        *nice, python, _, module, data, out = command.argv
        assert module == "ralph.adapters.plot"
        return spawn(replace(command, argv=(*nice, python, "-c", WATCHED, data, out)))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 s"


def test_one_at_a_time_nicely_and_the_newest_data_wins(hostile: Path, marked: Callable[[], list[int]]) -> None:
    out, programs = hostile / "out", Programs()
    drawing = Drawing(hostile / "data", out, hostile / "domain", programs)
    drawing.show("one")
    until(lambda: out.exists() and out.read_text() != "")
    for data in ("two", "three", "four"):
        drawing.show(data)
    assert len(programs.commands) == 1
    (hostile / "out.go").touch()
    assert drawing.finish(20.0)
    nice = min(19, os.nice(0) + NICENESS)  # the kernel goes no further
    assert out.read_text().splitlines() == [f"one {nice}", f"four {nice}"]
    assert len(programs.commands) == 2
    drawing.close()


def test_closing_ends_a_drawing_that_hangs(hostile: Path, marked: Callable[[], list[int]]) -> None:
    drawing = Drawing(hostile / "data", hostile / "out", hostile / "domain", Programs())
    drawing.show("one")
    until(lambda: (hostile / "out").exists() and (hostile / "out").read_text() != "")
    drawing.show("two")
    assert not drawing.finish(0.01)
    drawing.close()
    assert marked() == []
    assert (hostile / "out").read_text().startswith("one")


def test_a_drawing_that_fails_says_why_and_the_next_one_is_started(hostile: Path) -> None:
    (hostile / "data").mkdir()
    (hostile / "data" / "json").write_text("no json")
    drawing = Drawing(hostile / "data" / "json", hostile / "out.png", hostile / "domain")
    drawing.show("not json")
    assert drawing.finish(60.0)
    assert "cannot be drawn" in (hostile / "domain" / "log.txt").read_text()
    drawing.show("still not json")
    assert drawing.finish(60.0)
    assert not (hostile / "out.png").exists()


def test_what_the_picture_shows_already_is_not_drawn_again(hostile: Path) -> None:
    commands: list[Command] = []

    def start(command: Command) -> Child:
        commands.append(command)
        return spawn(command)

    def show(data: str) -> int:
        drawing = Drawing(hostile / "data.json", hostile / "out.png", hostile / "domain", start)
        drawing.show(data)
        assert drawing.finish(60.0)
        return len(commands)

    first, second = (json.dumps(picture_data(story.state)) for story in (Story(), small()))
    assert show(first) == show(first) == 1
    assert show(second) == show(second) == 2
    (hostile / "out.png").unlink()
    assert show(second) == 3
    os.utime(hostile / "data.json")
    assert show(second) == 4, "nobody knows what it shows"
