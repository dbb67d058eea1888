"""`python -m ralph.adapters.agents.llm`: one proposal by a language model, under the contract of docs/agents.md.

More of the environment: RALPH_AGENT_KIND (anthropic, openai), RALPH_MODEL, RALPH_API (responses, chat), and the gateway
that holds the provider's key, RALPH_GATEWAY, with RALPH_GATEWAY_KEY, a key of no worth elsewhere. Exit status and last
line: `ending`.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ralph.adapters.agents.contract import ContractError, Given, leave, read_given
from ralph.adapters.agents.llm.conversation import Usage
from ralph.adapters.agents.llm.ending import Ending, Kind
from ralph.adapters.agents.llm.settings import Settings, read_settings

if TYPE_CHECKING:
    from ralph.adapters.agents.llm.research import Research

SILENCE_S = 300.0  # a stream that says nothing for so long is dead; thinking models are silent for minutes
MARGIN = 0.02  # of the time is kept for an end in order, within these bounds in seconds
MARGIN_S = (0.5, 3.0)
AGAIN_S = 0.5  # an alarm that rings inside a finaliser is lost


class OutOfTime(BaseException):
    """The alarm rang. No Exception: the SDKs wrap those into errors of their own, and the waits would begin."""


def main(since_start_s: float | None = None) -> int:
    """Propose; the exit status of the ending. Its time began so long ago, by default when this process did."""
    began = time.monotonic() - (_age_s() if since_start_s is None else since_start_s)
    try:
        given, settings = read_given(), read_settings()
    except ContractError as error:
        return Ending(kind=Kind.CONTRACT, reason=str(error)).declare(None, 0, Usage())
    return _Attempt(given=given, settings=settings, began=began).go()


class _Attempt:
    """One life of this program."""

    def __init__(self, *, given: Given, settings: Settings, began: float) -> None:
        self._given, self._settings = given, settings
        margin_s = min(MARGIN_S[1], max(MARGIN_S[0], MARGIN * settings.timeout_s))
        self._deadline = began + settings.timeout_s - margin_s

    def go(self) -> int:
        """To the ending, by the alarm if need be: a read may block for longer than there is time."""
        research: Research | None = None
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self._remaining_s()), AGAIN_S)
        try:
            research = self._research()
            ending = research.run()
            research.side.close()
        except OutOfTime:
            signal.setitimer(signal.ITIMER_REAL, 0)
            ending = self._late(research)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        calls, usage = (research.calls, research.usage) if research else (0, Usage())
        return ending.declare(self._given.proposal.parent, calls, usage)

    def _late(self, research: "Research | None") -> Ending:
        """A provider that gave no answer in all that time is weather; a model that took too long is not."""
        told = f"{self._settings.timeout_s:g} s were over"
        if research is not None and research.desk.submitted:
            return Ending(kind=Kind.SUBMITTED, reason="a proposal was submitted")
        trouble = research.patience.trouble if research else ""
        if trouble or research is None or not research.calls:
            return Ending(kind=Kind.LIMITED, reason=f"no answer from the provider, and {told}: {trouble or 'silence'}")
        return Ending(kind=Kind.DEADLINE, reason=f"{told} before a proposal was submitted")

    def _remaining_s(self) -> float:
        return self._deadline - time.monotonic()

    def _research(self) -> "Research":
        """Everything that takes long to import is imported here, under the alarm."""
        from ralph.adapters.agents.llm.conversation import Conversation
        from ralph.adapters.agents.llm.folder import Folder
        from ralph.adapters.agents.llm.prompt import SYSTEM, split_brief
        from ralph.adapters.agents.llm.remembered import remembered
        from ralph.adapters.agents.llm.research import Research
        from ralph.adapters.agents.llm.sides import open_side
        from ralph.adapters.agents.llm.tools import Desk
        from ralph.adapters.agents.llm.waiting import Patience

        given = self._given
        index = Path(named) if (named := os.environ.get("RALPH_RECALL")) else None
        folder = Folder(root=Path.cwd(), editable=given.facts.editable)
        folder.remember()
        stable, news = split_brief(given.brief or "There is no brief. Look at the files in your folder.")
        return Research(
            side=open_side(self._settings, max(0.1, min(SILENCE_S, self._remaining_s()))),
            desk=Desk(
                folder=folder, proposal=given.proposal, recall=lambda words: remembered(words, index, given.history)
            ),
            conversation=Conversation(system=SYSTEM, stable=stable, news=news),
            patience=Patience(remaining_s=self._remaining_s),
            timeout_s=self._settings.timeout_s,
        )


def _ring(_number: int, _frame: FrameType | None) -> None:
    raise OutOfTime


def _age_s() -> float:
    """How long this process has lived, imports included: the supervisor's clock began with it."""
    import psutil

    return min(60.0, max(0.0, time.time() - psutil.Process().create_time()))


if __name__ == "__main__":
    leave(main())
