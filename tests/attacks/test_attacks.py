"""No scripted agent or candidate gains a keep, changes a later honest score, or leaves its folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.sandbox import SandboxLevel, reached
from tests.attacks.agents import AGENTS
from tests.attacks.campaign import broken_promises, only
from tests.attacks.catalogue import Side
from tests.attacks.runs import RUNS

Left = Callable[[], list[int]]
ATTACKS = (*RUNS, *AGENTS)
MANY = 8  # attacks of one campaign


def campaigns() -> list[object]:
    """Level, side and first attack of each campaign."""
    found: list[object] = []
    for level in SandboxLevel:
        for side in Side:
            count = len(only(ATTACKS, side, level))
            found += [pytest.param(level, side, start, id=f"{level}-{side}-{start}") for start in range(0, count, MANY)]
    return found


def needs(level: SandboxLevel) -> None:
    probe = reached(level)
    if probe.level is not level:
        pytest.skip(probe.reason)


def test_there_are_enough_of_them_and_each_has_its_name() -> None:
    assert len(ATTACKS) >= 40
    assert len({(attack.side, attack.name) for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("level", "side", "start"), campaigns())
def test_no_attack_that_a_level_covers_gets_anywhere(
    level: SandboxLevel, side: Side, start: int, tmp_path: Path, marked: Left
) -> None:
    needs(level)
    attacks = only(ATTACKS, side, level)[start : start + MANY]
    assert broken_promises(tmp_path / "arena", level, attacks) == []
    assert marked() == []


@pytest.mark.parametrize("side", Side)
def test_the_quick_ones_get_nowhere_at_the_level_of_this_machine(side: Side, tmp_path: Path, marked: Left) -> None:
    level = reached(SandboxLevel.BWRAP).level
    attacks = only(ATTACKS, side, level, quick=True)
    assert broken_promises(tmp_path / "arena", level, attacks[:3]) == []
    assert marked() == []


HARMLESS = {
    SandboxLevel.NONE: (
        "reads the validation data",
        "reads the supervisor's environment",
        "reaches a server on the loopback",
        "signals the supervisor",
    ),
    SandboxLevel.LANDLOCK: ("starts work at a socket outside", "changes the mode of ralph's files"),
}


@pytest.mark.slow
@pytest.mark.parametrize("level", HARMLESS)
def test_the_suite_notices_what_gets_through(level: SandboxLevel, tmp_path: Path) -> None:
    """What a level does not cover does get through there, else the suite, or the table, would be wrong."""
    needs(level)
    attacks = [attack for attack in RUNS if attack.name in HARMLESS[level]]
    assert not any(level in attack.covered for attack in attacks)
    found = broken_promises(tmp_path / "arena", level, attacks)
    assert [name for name in HARMLESS[level] if not any(f"run: {name}: BREACH" in line for line in found)] == []
