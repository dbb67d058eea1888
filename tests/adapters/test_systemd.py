"""The unit file: held to systemd's own opinion of it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ralph.adapters.systemd import Unit, systemctl, unit_folder

HOSTILE = [
    "plain",
    "with blanks  and 'single' \"double\" quotes",
    "100% $HOME ${HOME} $$ %h %n",
    "back\\slash\\",
    "\\x41 \\n literally",
    " leading and trailing ",
    "tab\tand\nnewline",
    "=; # [Unit] ünïcödé ∆",
    "-n",
]
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")


def unit(root: Path) -> Unit:
    return Unit(
        root=root, program=("/usr/bin/python3", "-m", "ralph", "loop"), stop_s=700, environment={"PATH": "/b%n"}
    )


def verified(unit_file: Path, runtime: Path) -> str:
    """Everything that systemd has to say; it ends with 0 even for keys that it does not know."""
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", str(unit_file)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr + (f"status {done.returncode}" if done.returncode else "")


@needs_systemd
@pytest.mark.parametrize("name", HOSTILE)
def test_systemd_has_nothing_to_say_about_a_unit_for_any_folder(tmp_path: Path, name: str) -> None:
    made = unit(Path("/work") / name)
    (tmp_path / made.name).write_text(made.text())
    assert verified(tmp_path / made.name, tmp_path) == ""


@needs_systemd
def test_what_systemd_does_not_know_would_show(tmp_path: Path) -> None:
    (tmp_path / "bad.service").write_text(unit(tmp_path).text().replace("KillMode=", "KilMode="))
    assert "KilMode" in verified(tmp_path / "bad.service", tmp_path)


def test_folders_of_one_name_get_units_of_their_own() -> None:
    names = [unit(Path(root)).name for root in ("/a/my Arena!", "/b/my Arena!", "/a/my-arena", "/", "/ü")]
    assert len(set(names)) == len(names)
    assert names[0].startswith("ralph-my-arena-")
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") for name in names)
    assert len(unit(Path("/" + "x" * 250)).name) < 80


def test_the_unit_restarts_bugs_only_and_lets_the_run_in_hand_finish() -> None:
    lines = unit(Path("/srv/arena")).text().splitlines()
    for line in (
        "Type=notify", "KillMode=mixed", "TimeoutStopSec=700", "Restart=on-failure", "RestartPreventExitStatus=2 3",
        "WatchdogSec=300", "StartLimitBurst=5",
    ):  # fmt: skip
        assert line in lines


def test_units_lie_where_the_user_manager_looks() -> None:
    assert unit_folder({"HOME": "/home/ada"}) == Path("/home/ada/.config/systemd/user")
    assert unit_folder({"HOME": "/home/ada", "XDG_CONFIG_HOME": "/conf"}) == Path("/conf/systemd/user")
    assert unit_folder({"HOME": "/home/ada", "XDG_CONFIG_HOME": ""}) == Path("/home/ada/.config/systemd/user")


def test_without_systemctl_the_answer_is_no(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not systemctl("daemon-reload").ok
