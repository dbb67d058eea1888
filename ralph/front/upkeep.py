"""The commands of those who look after a loop: its service, its ledger."""

import sys

import click

from ralph.errors import ExitStatus
from ralph.front.console import json_option, print_json, with_layout
from ralph.layout import Layout


@click.group()
def service() -> None:
    """A systemd user unit that starts this folder's loop and keeps it alive."""


@service.command("install")
@with_layout
def service_install(layout: Layout) -> None:
    """Write the unit of this folder, enable and start it; may be repeated."""
    from ralph.front.service import install

    for line in install(layout):
        click.echo(line)


@service.command("uninstall")
@with_layout
def service_uninstall(layout: Layout) -> None:
    """Stop it after the run in hand, and remove what install wrote."""
    from ralph.front.service import uninstall

    for line in uninstall(layout):
        click.echo(line)


@service.command("status")
@json_option
@with_layout
def service_status(layout: Layout, as_json: bool) -> None:
    """The unit on disk and as systemd sees it."""
    from ralph.front.service import status, told

    view = status(layout)
    if as_json:
        print_json(view)
    else:
        click.echo("\n".join(told(view)))


@click.group()
def ledger() -> None:
    """The append-only record: is it whole, and what to do if it is not."""


@ledger.command("verify")
@json_option
@with_layout
def ledger_verify(layout: Layout, as_json: bool) -> None:
    """Check every checksum; name the first line that is wrong. Changes nothing."""
    from ralph.front.mend import as_json as health_json
    from ralph.front.mend import findings, verify

    health = verify(layout)
    if as_json:
        print_json(health_json(health))
    else:
        click.echo("\n".join(findings(layout, health)))
    if not health.sound:
        sys.exit(ExitStatus.PARKED)


@ledger.command("repair")
@with_layout
def ledger_repair(layout: Layout) -> None:
    """Go on from what stands before the damage; what is not carried over is kept aside and named."""
    from ralph.front.mend import repair

    click.echo("\n".join(repair(layout)))
