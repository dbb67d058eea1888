"""The program as the supervisor starts it: a child process with the environment contract and nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.agents.contract import ContractError
from ralph.adapters.agents.llm.ending import Kind
from ralph.adapters.agents.llm.research import Bounds
from ralph.adapters.agents.llm.settings import read_settings
from tests.adapters.agents.llm.conftest import Opened
from tests.adapters.agents.llm.desk import EDITS, LOOK, SUBMITS, Office, said
from tests.provider import Api, Fault, Provider, Reply, Script, Usage, limited

Open = Callable[[Api, Script], Opened]


def test_it_looks_edits_and_submits(api: Api, opened: Open, marked: object) -> None:
    looks = Reply(text="First I look.", tools=(LOOK,), usage=Usage(input=1000, output=30, cached=400))
    office, provider = opened(api, [looks, EDITS, SUBMITS])
    office.env = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "OPENAI_API_KEY": "real"}
    ended = office.run()
    assert (ended.status, ended.told["ending"]) == (0, "submitted"), ended.err
    assert "LEARNING_RATE = 0.2 " in office.train
    assert ended.proposal == {
        "hypothesis": "a larger learning rate, because training ends early; expect a gain",
        "expected": "-0.01",
        "learnings": [{"text": "width matters little", "evidence": [3, 4]}],
        "supersedes": ["#2"],
    }
    assert {k: ended.told[k] for k in ("calls", "read", "cached", "wrote")} == {
        "calls": 3, "read": 1200, "cached": 400, "wrote": 70,
    }  # fmt: skip
    for request in provider.requests:
        assert (request.body["model"], request.streamed) == ("test-model", True)
        assert "ralph-dummy-1" in (request.headers.get("x-api-key") or request.headers["authorization"])
        assert "temperature" not in request.body


HANGS = Reply(text="some words", fault=Fault.HANG)
SILENCES = {
    "from the beginning": (4.0, [HANGS], 75, "limited", "no answer from the provider"),
    "after an answer": (15.0, [Reply(tools=(LOOK,)), HANGS], 79, "deadline", "before a proposal was submitted"),
}


@pytest.mark.slow
@pytest.mark.parametrize("silence", SILENCES)
def test_silence_does_not_hold_it_beyond_its_deadline(silence: str, opened: Open, marked: object) -> None:
    timeout_s, script, status, kind, words = SILENCES[silence]
    office, _ = opened(Api.RESPONSES, script)
    office.timeout_s = timeout_s
    ended = office.run()
    assert ended.seconds < office.timeout_s + 1
    assert (ended.status, ended.told["ending"]) == (status, kind), ended.err
    assert words in ended.told["reason"]


@pytest.mark.slow
def test_a_wait_that_does_not_fit_ends_it_at_once_with_the_wait_on_record(opened: Open) -> None:
    office, provider = opened(Api.MESSAGES, [limited(3600)])
    ended = office.run()
    assert (ended.status, ended.told["ending"], ended.told["retry_after_s"]) == (75, "limited", 3600)
    assert len(provider.requests) == 1
    assert ended.proposal is None


def test_without_its_environment_it_says_what_is_missing(tmp_path: Path) -> None:
    office = Office(root=tmp_path, api=Api.CHAT, url="http://127.0.0.1:9", env={"RALPH_MODEL": ""})
    ended = office.run()
    assert ended.status == 2
    assert "RALPH_MODEL not set" in ended.err
    last = ended.err.splitlines()[-1]
    assert json.loads(last.removeprefix("ralph-agent-ended: "))["ending"] == "contract"


def test_nothing_of_one_life_is_known_to_the_next(opened: Open, tmp_path: Path) -> None:
    word = "a-word-of-the-first-life"
    office, first = opened(Api.CHAT, [Reply(text=word, tools=(LOOK,)), EDITS, SUBMITS])
    assert office.run().status == 0
    with Provider([SUBMITS]) as second:
        office.url = second.url
        office.run()
    assert word in said(first.requests[-1])
    assert all(word not in said(request) for request in second.requests)


def test_every_ending_and_variable_of_the_program_is_on_the_page() -> None:
    page = (Path(__file__).parents[4] / "docs" / "agents.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))
    assert rows == {str(kind): str(kind.status) for kind in Kind}
    with pytest.raises(ContractError) as missing:
        read_settings({})
    names = re.findall(r"RALPH_\w+", str(missing.value))
    assert names
    assert [name for name in [*names, "RALPH_API"] if f"`{name}`" not in page] == []
    assert re.search(rf"{Bounds().turns} answers and {Bounds().tokens:,} written tokens", page)
