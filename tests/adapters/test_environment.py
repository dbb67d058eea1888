"""What a payload's environment has and what it never has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.adapters.environment import MissingVariableError, expanded, passes, scrubbed
from ralph.errors import ConfigError

SECRETS = [
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GITHUB_TOKEN",
    "GH_TOKEN",
    "HF_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "NVIDIA_API_KEY",
    "CUDA_LICENSE_TOKEN",
    "TORCH_HUB_TOKEN",
    "LC_PASSWORD",
    "nvidia_api_key",
    "CLAUDECODE",
    "CLAUDE_CODE_ENTRYPOINT",
    "CODEX_HOME",
    "SSH_AUTH_SOCK",
    "WANDB_API_KEY",
    "DATABASE_URL",
    "HTTPS_PROXY",
    "DBUS_SESSION_BUS_ADDRESS",
    "TMUX",
    "XDG_RUNTIME_DIR",
    "LD_PRELOAD",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "RALPH_DOMAIN",
]
USEFUL = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
]


@pytest.fixture
def folder(hostile: Path) -> Path:
    return hostile


@pytest.mark.parametrize("name", SECRETS)
def test_what_may_be_a_secret_or_leads_outside_does_not_pass(name: str, folder: Path) -> None:
    assert not passes(name)
    assert "sesame" not in scrubbed({name: "sesame"}, folder).get(name, "")


@pytest.mark.parametrize("name", USEFUL)
def test_what_programs_need_passes(name: str, folder: Path) -> None:
    assert passes(name)
    assert scrubbed({name: "/some/value"}, folder)[name].endswith("/some/value")


def test_nothing_passes_that_is_not_on_the_list(folder: Path) -> None:
    ambient = {f"VARIABLE_{number}": "x" for number in range(100)}
    assert not ambient.keys() & scrubbed(ambient, folder).keys()


def test_home_and_tmpdir_are_fresh_folders_of_the_domain(folder: Path) -> None:
    environment = scrubbed({"HOME": "/home/ada", "TMPDIR": "/tmp"}, folder)
    for name in ("HOME", "TMPDIR"):
        assert Path(environment[name]).parent == folder
        assert Path(environment[name]).stat().st_mode & 0o777 == 0o700
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        assert Path(environment[name]).is_relative_to(folder / "home")
        assert Path(environment[name]).is_dir()
    with pytest.raises(FileExistsError):
        scrubbed({}, folder)


def test_python_means_ours(folder: Path) -> None:
    environment = scrubbed(os.environ, folder)
    program = "import sys, os; print(sys.executable); print(sys.flags.no_user_site, sys.dont_write_bytecode)"
    done = subprocess.run(["python", "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(Path(sys.executable).parent / "python"), "1 True"]


def test_the_path_has_our_interpreter_first_once_and_no_relative_entries(folder: Path) -> None:
    ours = str(Path(sys.executable).parent)
    path = scrubbed({"PATH": f"/usr/bin:.::bin:{ours}:/bin"}, folder)["PATH"]
    assert path.split(":") == [ours, "/usr/bin", "/bin"]


def test_a_supervisor_without_a_path_gives_a_usable_one(folder: Path) -> None:
    assert "/bin" in scrubbed({}, folder)["PATH"].split(":")


def test_another_interpreter_can_be_first(folder: Path) -> None:
    path = scrubbed({"PATH": "/usr/bin"}, folder, interpreter=Path("/opt/venv/bin/python"))["PATH"]
    assert path == "/opt/venv/bin:/usr/bin"


def test_entries_of_the_arena_win_and_may_name_what_does_not_pass(folder: Path) -> None:
    ambient = {"LANG": "de_DE.UTF-8", "WANDB_API_KEY": "sesame"}
    environment = scrubbed(ambient, folder, extra={"LANG": "C", "MY_KEY": "${WANDB_API_KEY}", "N": "1"})
    assert (environment["LANG"], environment["MY_KEY"], environment["N"]) == ("C", "sesame", "1")
    assert "WANDB_API_KEY" not in environment


def test_a_reference_to_nothing_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(MissingVariableError, match=r"CACHE.*needs DATA_ROOT.*export it") as caught:
        expanded("CACHE", "${DATA_ROOT}/cache", {})
    assert isinstance(caught.value, ConfigError)
    with pytest.raises(MissingVariableError, match="a name between the braces"):
        expanded("CACHE", "${}", {})


def test_only_braces_refer_and_values_are_not_expanded_again() -> None:
    ambient = {"A": "${B}", "B": "b"}
    assert expanded("X", "$A $$ $${A} ${A} ${B}$", ambient) == "$A $ ${A} ${B} b$"


def test_the_supervisors_environment_is_not_changed(folder: Path) -> None:
    ambient = {"PATH": "/bin"}
    scrubbed(ambient, folder, extra={"X": "1"})
    assert ambient == {"PATH": "/bin"}
