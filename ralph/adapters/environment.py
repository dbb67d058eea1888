"""The scrubbed environment of a payload: a short list of what passes, and never a key.

Covered: variables of the supervisor that are not on the list do not arrive, whatever they are called; none whose name
looks like a secret arrives even if the list would let it through. Not covered: secrets in files (a sandbox hides
those), and what an arena hands over by name in its `env`, since it says so on purpose.
"""

import os
import re
import sys
from collections.abc import Mapping
from fnmatch import translate
from pathlib import Path

from ralph.errors import ConfigError

PASSED = (
    # how programs are found, language, time
    "PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR",
    # who and on what terminal: some tools refuse to start without
    "USER", "LOGNAME", "TERM",
    # libraries and compilers
    "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "CC", "CXX", "TRITON_PTXAS_PATH",
    # the device
    "CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ROCM_PATH",
    "HSA_OVERRIDE_GFX_VERSION",
    # numerics
    "OMP_*", "MKL_*", "OPENBLAS_NUM_THREADS", "KMP_*", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_*", "TORCH_*",
    "TORCHINDUCTOR_*",
    # certificates
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    # where Nix keeps its locales
    "LOCALE_ARCHIVE",
)  # fmt: skip

_PASSED = re.compile("|".join(map(translate, PASSED)))
SECRET = re.compile("KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)  # NVIDIA_API_KEY, say

REFERENCE = re.compile(r"\$\$|\$\{([^}]*)\}")


class MissingVariableError(ConfigError):
    """An arena refers to a variable that the supervisor's environment does not have."""


def scrubbed(
    ambient: Mapping[str, str],
    folder: Path,
    *,
    extra: Mapping[str, str] | None = None,
    interpreter: Path | None = None,
    tmp: Path | None = None,
) -> dict[str, str]:
    """The environment of one payload, with a HOME and a TMPDIR of its own, made fresh in its domain folder.

    Args:
        ambient: the supervisor's own environment; read, never changed.
        folder: the domain folder; gets ``home`` and ``tmp``, readable by the owner only.
        extra: further entries, from the arena or the caller. They win over everything. ``${NAME}`` stands for the value
            of NAME in `ambient`, whether it is on the list or not; ``$$`` for one dollar sign.
        interpreter: the python whose folder comes first in PATH, so that ``python`` means ours; by default this one.
        tmp: what TMPDIR says where it is not ``tmp`` of the domain folder, which is made all the same.

    Raises:
        MissingVariableError: an entry of `extra` names a variable that `ambient` lacks.
        FileExistsError: the domain folder was used before.
    """
    environment = {name: value for name, value in ambient.items() if passes(name)}
    environment |= _own_folders(folder)
    if tmp is not None:
        environment["TMPDIR"] = str(tmp)
    environment["PATH"] = _path(environment.get("PATH", ""), interpreter or Path(sys.executable))
    environment.setdefault("LANG", "C.UTF-8")
    environment |= {
        "PYTHONNOUSERSITE": "1",  # what a user installed for himself is no part of the arena
        # Bytecode beside the sources would look like files that an agent added, and a fresh checkout never reuses it.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # the log of a killed run is worth most in its last lines
        "GIT_TERMINAL_PROMPT": "0",
        "NO_COLOR": "1",
    }
    for name, value in (extra or {}).items():
        environment[name] = expanded(name, value, ambient)
    return environment


def passes(name: str) -> bool:
    """May a variable of this name reach a payload?

    >>> passes("LC_TIME"), passes("CUDA_VISIBLE_DEVICES"), passes("OPENAI_API_KEY"), passes("EDITOR")
    (True, True, False, False)
    """
    return _PASSED.match(name) is not None and not SECRET.search(name)


def expanded(name: str, value: str, ambient: Mapping[str, str]) -> str:
    """An entry with its ``${NAME}`` references filled in.

    >>> expanded("CACHE", "${HOME}/cache costs $$5", {"HOME": "/home/ada"})
    '/home/ada/cache costs $5'

    Raises:
        MissingVariableError: a reference to a variable that is not there.
    """

    def fill(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        if match[1] not in ambient:
            raise MissingVariableError(
                f'env: {name} = "{value}" needs {match[1] or "a name between the braces"}, which is not set here; '
                f"export it before starting, or change the entry"
            )
        return ambient[match[1]]

    return REFERENCE.sub(fill, value)


def _own_folders(folder: Path) -> dict[str, str]:
    root = folder.resolve()
    home, tmp = root / "home", root / "tmp"  # side by side: some agents refuse a home below TMPDIR
    places = {
        "HOME": home,
        "TMPDIR": tmp,
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_STATE_HOME": home / ".local" / "state",
        "XDG_RUNTIME_DIR": home / ".run",
    }
    for name, place in places.items():
        place.mkdir(mode=0o700, parents=name.startswith("XDG"))
    return {name: str(place) for name, place in places.items()}


def _path(path: str, interpreter: Path) -> str:
    # Not resolved: a virtual environment's python is a link, and its folder is the one that counts.
    ours = str(Path(os.path.abspath(interpreter)).parent)  # noqa: PTH100
    rest = [entry for entry in path.split(os.pathsep) if entry.startswith("/") and entry != ours]
    return os.pathsep.join([ours, *(rest or os.defpath.split(os.pathsep))])
