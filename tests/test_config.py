"""arena.toml: defaults, profiles, and errors that say what to do."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from ralph.config import AgentEntry, Config, load, parse
from ralph.errors import ConfigError, ExitStatus

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


def test_an_empty_file_is_an_arena() -> None:
    config = parse({})
    assert config.arena.metric == "val_bpb"
    assert config.run.budget_s == 300


def test_the_cpu_profile_replaces_keys_on_a_cpu_only() -> None:
    raw = {"run": {"budget_s": 300, "setup_s": 60, "cpu": {"budget_s": 30}}}
    assert parse(raw, device="cpu").run.budget_s == 30
    assert parse(raw, device="cpu").run.setup_s == 60
    assert parse(raw, device="cuda:0").run.budget_s == 300
    assert raw["run"]["cpu"] == {"budget_s": 30}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"arena": {"metrik": "x"}}, r"unknown key 'arena\.metrik'. Known here: direction, editable, metric, name"),
        ({"aren": {}}, r"unknown key 'aren'. Known here: agent, agents, arena, budget"),
        ({"run": {"budget_s": -1}}, r"run\.budget_s: .*greater than 0"),
        ({"run": {"cpu": {"budgets": 1}}}, r"unknown key 'run\.budgets'"),
        ({"arena": {"direction": "down"}}, r"arena\.direction: .*'min' or 'max'"),
        ({"arena": {"editable": ["../x"]}}, "leaves the arena's folder"),
        ({"score": {"mode": "command"}}, r"needs score\.command"),
        ({"score": {"mode": "sealed"}}, r"needs data\.command"),
        ({"score": {"bounds": [2, 1]}}, r"write \[low, high\]"),
        ({"agent": {"use": "claude"}}, r"agent 'claude' is not defined; known: tuner\. Add \[agents\.claude\]"),
        ({"agents": {"x": {"kind": "command"}}}, "needs command, the program to start"),
        (
            {"agents": {"x": {"kind": "tuner", "comand": ""}}},
            r"unknown key 'agents\.x\.comand'. Known here: api, base_url, command",
        ),
        ({"agent": {"mix": {"tuner": -1}}}, "not negative"),
        ({"budget": {"until": "25:00"}}, r"budget\.until"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(raw)
    assert caught.value.status is ExitStatus.CONFIG


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ralph init"):
        load(tmp_path / "arena.toml")
    (tmp_path / "arena.toml").write_text("[arena\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path / "arena.toml")


def test_the_page_on_configuration_names_every_key_and_no_other() -> None:
    """docs/configuration.md is held to the code."""
    documented = set(re.findall(r"^\| `([a-z_]+\.[A-Za-z_.]+)` \|", DOCS.read_text(), re.MULTILINE))
    keys = {f"agents.NAME.{name}" for name in AgentEntry.model_fields}
    for table, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= {f"{table}.{name}" for name in field.annotation.model_fields}
    assert documented == keys
