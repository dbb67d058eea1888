from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.agents.llm.desk import APIS, Office
from tests.provider import Api, Provider, Script

Opened = tuple[Office, Provider]


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Api:
    """Each of the three APIs in turn."""
    return Api(request.param)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[Api, Script], Opened]]:
    """An office whose provider plays a script; it is gone at the end."""
    providers: list[Provider] = []
    offices: list[Office] = []

    def open_(api: Api, script: Script) -> Opened:
        provider = Provider(script)
        provider.__enter__()
        providers.append(provider)
        offices.append(Office(root=tmp_path, api=api, url=provider.url))
        return offices[-1], provider

    yield open_
    for side in (side for office in offices for side in office.sides):
        side.close()
    for provider in providers:
        provider.__exit__(None, None, None)
