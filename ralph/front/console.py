"""What commands share: the layout of --dir, --json, and words that a lost terminal does not turn into a failure."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ralph.layout import locate


def with_layout(command: Callable[..., None]) -> Callable[..., None]:
    """Pass the layout of --dir as the first argument."""

    @click.pass_obj
    def wrapper(folder: Path, /, *args: Any, **kwargs: Any) -> None:
        command(locate(folder), *args, **kwargs)

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(data: object) -> None:
    """JSON for programs."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def say_last(text: str) -> None:
    """Print it if there is still a terminal; its loss must not change the exit status, not even when Python ends."""
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
