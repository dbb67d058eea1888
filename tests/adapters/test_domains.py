"""What every child is given: folders of its own, whose names are short enough for what programs do in them."""

import select
import sys
from pathlib import Path

import pytest

from ralph.adapters.domains import Domains, Start, read_log
from ralph.adapters.process import become_subreaper
from ralph.adapters.sandbox import SandboxLevel, reached

# multiprocessing, and so every data loader with processes of its own, makes sockets in TMPDIR; their names have room
# for 107 bytes.
LISTEN = "from multiprocessing.connection import Listener; Listener(family='AF_UNIX').close(); print('listened')"


@pytest.mark.parametrize("level", SandboxLevel)
@pytest.mark.parametrize("depth", [0, 4])
def test_programs_can_make_sockets_in_their_tmpdir_however_deep_the_arena_lies(
    level: SandboxLevel, depth: int, hostile: Path
) -> None:
    if reached(level).level is not level:
        pytest.skip(reached(level).reason)
    become_subreaper()
    state = hostile.joinpath(*["deeper" * 5] * depth) / "state"
    domains = Domains(level, visible=(hostile,), hidden=(state,))
    folder = domains.fresh(state / "experiments" / "000001" / "run-1")
    child = domains.start(Start(folder=folder, argv=(sys.executable, "-c", LISTEN), cwd=hostile, deadline_s=60.0))
    while child.poll() is None:
        select.select([child], [], [], 1.0)
    child.close()
    assert read_log(folder) == "listened\n"


def test_the_short_names_of_folders_that_are_gone_go_as_well(hostile: Path) -> None:
    become_subreaper()
    domains = Domains(SandboxLevel.NONE, visible=(hostile,), hidden=())
    links = []
    for number in range(2):
        folder = domains.fresh(hostile / ("deeper" * 8) / str(number))
        program = "import os; print(os.environ['TMPDIR'])"
        child = domains.start(Start(folder=folder, argv=(sys.executable, "-c", program), cwd=hostile))
        while child.poll() is None:
            select.select([child], [], [], 1.0)
        child.close()
        links.append(Path(read_log(folder).strip()))
        assert links[-1].resolve() == folder / "tmp"
        (folder / "tmp").rmdir()
    assert [link.is_symlink() for link in links] == [False, True], "the next start finds the first one"
    links[-1].unlink()
