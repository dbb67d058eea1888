"""What children find of the user's home: the programs in it, what the arena names, and nothing else.

Covered at levels bwrap and landlock: whatever lies in the home and is not named here, so keys, histories, mail, caches.
Not covered: what lies elsewhere; a home that contains everything (`/`); the arena's own repository, which stays visible
wherever it is; level none.
"""

import contextlib
import os
import pwd
from collections.abc import Iterable, Mapping
from pathlib import Path

# Where interpreters and tools live that a virtual environment or a script refers to.
TOOLS = (
    ".local/lib",
    ".local/share/uv",
    ".local/share/pipx",
    ".local/share/mise",
    ".rustup",
    ".nvm",
    ".pyenv",
    "miniconda3",
    "anaconda3",
    "miniforge3",
    "mambaforge",
)
BESIDE = ("lib", "lib64", "libexec", "pyvenv.cfg")  # what the programs of a folder called bin need of its neighbours


def homes() -> tuple[Path, ...]:
    """The user's home, by HOME and by the system's list of users, which may differ; none that is the root of all."""
    named = [Path.home()]
    with contextlib.suppress(KeyError):  # a user of a container that no list has
        named.append(Path(pwd.getpwuid(os.getuid()).pw_dir))
    places = {place.resolve(): None for place in named if place.is_dir()}
    return tuple(place for place in places if place != place.parent)


def programs_in(home: Path, path: str) -> tuple[Path, ...]:
    """What of a home has to be seen for the programs on PATH to start: their folders, and what links in them lead to.

    Args:
        home: the home.
        path: the variable PATH.
    """
    home = home.resolve()
    folders = [place for word in path.split(":") if word and (place := Path(word)).is_dir()]
    ours = [place for place in folders if _inside(place.resolve(), home)]
    links = [link.resolve() for place in ours for link in place.iterdir() if link.is_symlink()]
    tools = [home / name for name in TOOLS]
    bins = {place.resolve() for place in ours} | {_whole(link) for link in links if _inside(link.parent, home)}
    beside = [folder.parent / name for folder in bins if folder.name == "bin" for name in BESIDE]
    found = {*bins, *beside, *(tool.resolve() for tool in tools)}
    return tuple(sorted(place for place in found if place.exists()))


def named_in(home: Path, values: Iterable[str]) -> tuple[Path, ...]:
    """The home itself and paths in it, of those that these values of variables are."""
    home = home.resolve()
    paths = [Path(value).resolve() for value in values if value.startswith("/")]
    return tuple(path for path in paths if path.exists() and path.is_relative_to(home))


def values_of(environment: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """The values of these variables."""
    return [environment[name] for name in names if name in environment]


def _inside(path: Path, home: Path) -> bool:
    return path != home and path.is_relative_to(home)


def _whole(program: Path) -> Path:
    """The folder of a program; of one that npm installed, the outermost `node_modules`, where what it needs is."""
    modules = [folder for folder in program.parents if folder.name == "node_modules"]
    return modules[-1] if modules else program.parent
