"""What a preset is: how one coding CLI is started under the contract of docs/agents.md, and how its output is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ralph.adapters.agents.presets.report import Report


class Api(StrEnum):
    """What a CLI speaks to the gateway."""

    MESSAGES = "messages"
    RESPONSES = "responses"
    CHAT = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a CLI is to be started with.

    Attributes:
        model: the provider's name for it, without the prefix that chose the API; empty is the CLI's own choice.
        api: what to speak, for CLIs that know several.
        url, key: the gateway and the dummy key; both empty with a login of the CLI's own.
        home: the fresh HOME.
        brief: the file that is on standard input too.
        files: the editable files there are, relative to the working directory, for CLIs that must be told.
    """

    model: str
    api: Api
    url: str
    key: str
    home: Path
    brief: Path
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One CLI: headless, in a clean context, without a session to go on with, and as root where it must.

    Attributes:
        program: what to start unless the configuration names something else.
        install: how to get it.
        argv: arguments behind the program.
        env: what its environment has more than any agent's.
        home: text of the files it finds in its HOME, by their relative path.
        read: what its output says of tokens, cost, limits and errors.
        needs_model: it cannot choose one by itself when it is led to the gateway.
        logins: where in a user's home its own login lies; the first must be there. Empty: it has none.
        login_folder: a variable by which the user may have moved the folder of `logins`.
        login_token: a variable that holds a lasting login and is used instead of the files when it is set.
        log_in: the words that tell how to log in.
    """

    program: str
    install: str
    argv: Callable[[Setting], tuple[str, ...]]
    env: Callable[[Setting], Mapping[str, str]]
    home: Callable[[Setting], Mapping[str, str]]
    read: Callable[[str], Report]
    needs_model: bool = False
    logins: tuple[str, ...] = ()
    login_folder: str = ""
    login_token: str = ""
    log_in: str = ""


def nothing(_setting: Setting) -> Mapping[str, str]:
    """For CLIs that need no files, or no variables."""
    return {}
