"""What every payload is given: a TMPDIR in which sockets can be made, however deep its folder lies."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.adapters.domains import MOST_TMPDIR, Domains, Start, finished, read_log, short_tmp
from ralph.adapters.process import Child, become_subreaper
from ralph.adapters.sandbox import SandboxLevel, reached
from tests.adapters.keeping import end_of

# As DataLoader's workers and managers do it, without the seconds that torch takes to import.
LISTEN = """
import os, sys, tempfile
from multiprocessing.connection import Listener
from multiprocessing.util import get_temp_dir
with Listener(family="AF_UNIX") as listener:
    print("listens", listener.address.startswith(get_temp_dir()))
print("tmpdir", os.environ["TMPDIR"], oct(os.stat(os.environ["TMPDIR"]).st_mode & 0o777))
open(os.path.join(tempfile.gettempdir(), "left"), "w").close()
"""


@pytest.fixture(params=[SandboxLevel.NONE, SandboxLevel.BWRAP])
def level(request: pytest.FixtureRequest) -> SandboxLevel:
    wanted: SandboxLevel = request.param
    probe = reached(wanted)
    if probe.level is not wanted:
        pytest.skip(probe.reason)
    return wanted


@pytest.fixture
def deep(hostile: Path) -> Iterator[Path]:
    """A domain folder far beyond what the name of a socket can hold; nothing of it is left in /tmp."""
    become_subreaper()
    folder = hostile / ("a-project-with-a-long-name-" * 4) / "state" / "experiments" / "000001" / "run-1"
    yield folder
    assert not short_tmp(folder).exists()


def start(level: SandboxLevel, folder: Path, program: str = LISTEN, **options: dict[str, str]) -> Child:
    domains = Domains(level, visible=(folder.parents[1],), hidden=())
    domains.fresh(folder)
    return domains.start(Start(folder=folder, argv=(sys.executable, "-c", program), cwd=folder, **options))  # type: ignore[arg-type]


def said(folder: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in read_log(folder).splitlines())


def test_a_payload_in_a_deep_folder_can_listen_on_a_socket(level: SandboxLevel, deep: Path) -> None:
    end = end_of(start(level, deep))
    assert end.ok, read_log(deep)
    found = said(deep)
    assert found["listens"] == "True"
    place, mode = found["tmpdir"].split()
    assert place == ("/tmp" if level is SandboxLevel.BWRAP else str(short_tmp(deep)))
    assert mode == "0o700"
    if level is SandboxLevel.BWRAP:
        assert (deep / "tmp" / "left").exists(), "on disk, where it can be large"


def test_what_a_killed_payload_left_in_a_short_tmpdir_goes_with_it(deep: Path) -> None:
    child = start(SandboxLevel.NONE, deep, LISTEN + "import time; time.sleep(600)")
    assert short_tmp(deep).is_dir()
    child.kill("enough")
    end_of(child)


def test_a_short_tmpdir_that_a_dead_supervisor_left_goes_when_its_end_is_read(deep: Path) -> None:
    end_of(start(SandboxLevel.NONE, deep))
    (short_tmp(deep) / "below").mkdir(parents=True)
    assert finished(deep) is not None


def test_a_short_tmpdir_that_a_dead_supervisor_left_goes_before_the_next_use(deep: Path) -> None:
    short_tmp(deep).mkdir()
    (short_tmp(deep) / "old").touch()
    child = start(SandboxLevel.NONE, deep)
    assert not (short_tmp(deep) / "old").exists()
    end_of(child)


def test_a_link_in_place_of_a_short_tmpdir_loses_nobody_his_files(deep: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    trick = (
        f"import os; os.rmdir(os.environ['TMPDIR']); os.symlink({str(tmp_path / 'precious')!r}, os.environ['TMPDIR'])"
    )
    assert end_of(start(SandboxLevel.NONE, deep, trick)).ok
    assert (tmp_path / "precious" / "file").exists()


def test_a_short_folder_keeps_its_own_tmpdir() -> None:
    folder = Path("/var/tmp") / f"ralph-test-{os.getpid()}"
    assert len(str(folder / "tmp")) < MOST_TMPDIR
    become_subreaper()
    try:
        assert end_of(start(SandboxLevel.NONE, folder / "a" / "b")).ok
        assert said(folder / "a" / "b")["tmpdir"].split()[0] == str(folder / "a" / "b" / "tmp")
    finally:
        shutil.rmtree(folder)


def test_an_arena_that_sets_tmpdir_has_its_way(level: SandboxLevel, deep: Path) -> None:
    child = start(level, deep, "import os; print('tmpdir', os.environ['TMPDIR'])", arena_env={"TMPDIR": "/dev/shm"})
    end_of(child)
    assert said(deep)["tmpdir"] == "/dev/shm"
