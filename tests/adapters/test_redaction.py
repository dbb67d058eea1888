"""Files are redacted in place, a window at a time; data, links and what has no secret stay as they are."""

import os
import stat
from pathlib import Path

import pytest

from ralph.adapters import redaction
from ralph.adapters.redaction import redact_file, redact_folder, redactor_of, refuse_secret
from ralph.config import AgentEntry, Config
from ralph.core.secrets import Redactor
from ralph.errors import RefusedError

SECRET = "ghp_Zq3Xv9Lm2Rt7Wb5Nc8Kd1Hf6Jg4Ps0Yqabcd"
REDACT = Redactor({"MY_TOKEN": "correct horse battery"})


def test_a_log_loses_its_secrets_and_keeps_every_other_byte(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"one\r\n\xff\xfe bytes " + SECRET.encode() + b" end\ncorrect horse battery")
    log.chmod(0o640)
    assert redact_file(log, REDACT)
    assert log.read_bytes() == b"one\r\n\xff\xfe bytes [redacted: GitHub token] end\n[redacted: MY_TOKEN]"
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["log.txt"]


def test_a_file_without_secrets_is_not_written(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("nothing\n")
    before = log.stat()
    assert not redact_file(log, REDACT)
    assert (log.stat().st_ino, log.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not redact_file(tmp_path / "none.txt", REDACT)


@pytest.mark.parametrize("line", [b"x" * 79 + b"\n", b"ab \xc3\xa9\xe2\x82\xac"], ids=["lines", "one line"])
def test_a_secret_across_any_cut_of_a_long_log_is_found(
    line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "WINDOW_BYTES", 30_000)
    filler = line * (200_000 // len(line))
    log = tmp_path / "log.txt"
    for at in (29_960, 29_999, 30_001, 59_980, 9_515, 9_530, len(filler)):
        log.write_bytes(filler[:at] + b" " + SECRET.encode() + b" " + filler[at:])
        assert redact_file(log, REDACT)
        assert log.read_bytes() == filler[:at] + b" [redacted: GitHub token] " + filler[at:]


def test_data_links_and_special_files_are_left_alone(tmp_path: Path) -> None:
    data, link, pipe = tmp_path / "data", tmp_path / "link", tmp_path / "pipe"
    data.write_bytes(b"\0" + SECRET.encode())
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_text(SECRET)
    link.symlink_to(outside)
    os.mkfifo(pipe)
    redact_folder(tmp_path, REDACT)
    assert SECRET.encode() in data.read_bytes()
    assert outside.read_text() == SECRET


def test_of_a_folder_the_small_files_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "MOST_BYTES", 1_000)
    (tmp_path / "a.txt").write_text("x" * 2_000 + SECRET)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "z.json").write_text(SECRET)
    redact_folder(tmp_path, REDACT)
    assert (tmp_path / "below" / "z.json").read_text() == "[redacted: GitHub token]"
    assert SECRET in (tmp_path / "a.txt").read_text()


def test_the_supervisors_own_secrets_are_known_by_name(tmp_path: Path) -> None:
    socket = tmp_path / "agent.socket"
    socket.touch()
    environ = {
        "GITHUB_TOKEN": "not of any shape", "HOME": "/home/somebody", "MODEL": "gpt-large",
        "SSH_AUTH_SOCK": str(socket), "SPECIAL": "named as a key in arena.toml",
    }  # fmt: skip
    config = Config(agents={"mine": AgentEntry(kind="openai", model="m", key="SPECIAL")})
    redact = redactor_of(environ, config)
    assert redact("not of any shape") == "[redacted: GITHUB_TOKEN]"
    assert redact("named as a key in arena.toml") == "[redacted: SPECIAL]"
    assert redact(f"/home/somebody {socket} gpt-large") == f"/home/somebody {socket} gpt-large"


def test_a_candidate_that_adds_a_secret_is_refused_by_file_and_line() -> None:
    refuse_secret(REDACT, "train.py", f"A = '{SECRET}'\n", f"B = 1\nA = '{SECRET}'\n")
    with pytest.raises(RefusedError, match=r"train\.py line 2 adds a secret \(GitHub token\)") as told:
        refuse_secret(REDACT, "train.py", "", f"B = 1\nA = '{SECRET}'\n")
    assert SECRET not in str(told.value)
    with pytest.raises(RefusedError, match="the name of a file holds a secret") as told:
        refuse_secret(REDACT, f"{SECRET}.py", "", "B = 1\n")
    assert SECRET not in str(told.value)
