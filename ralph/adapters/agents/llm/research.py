"""The agent's own loop: ask, do what the model wants, tell it what came of it, until it submits or meets a bound."""

import sys
from dataclasses import dataclass, field

from ralph.adapters.agents.llm.conversation import Conversation, Reply, Results, Side, Stop, ToolCall, ToolResult, Usage
from ralph.adapters.agents.llm.ending import Ending, Kind
from ralph.adapters.agents.llm.prompt import CUT, NUDGE
from ralph.adapters.agents.llm.tools import Desk
from ralph.adapters.agents.llm.waiting import BudgetError, ContextError, Patience, RejectedError, WeatherError

LAST_TURNS = 4  # from here on the model is told how many are left
HURRY = 0.2  # of its time; from here on the model is told how little is left
LOGGED = 300  # characters of a mistake that go to the log
SHORT_ANSWER = 4_000  # tokens, once the model was found to have little room


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one agent may use: answers, tokens that it writes in all and in one answer, answers that do nothing."""

    turns: int = 40
    tokens: int = 120_000
    answer_tokens: int = 16_000
    idle: int = 3


@dataclass(slots=True, kw_only=True)
class Research:
    """One conversation at work."""

    side: Side
    desk: Desk
    conversation: Conversation
    patience: Patience
    timeout_s: float
    bounds: Bounds = field(default_factory=Bounds)
    usage: Usage = field(default_factory=Usage)
    calls: int = 0
    idle: int = 0
    answer_tokens: int = 0

    def run(self) -> Ending:
        """Go on to an ending."""
        self.answer_tokens = self.bounds.answer_tokens
        while self.calls < self.bounds.turns and self.usage.wrote < self.bounds.tokens:
            try:
                reply = self._ask()
            except WeatherError as error:
                return Ending(kind=Kind.LIMITED, reason=str(error), retry_after_s=error.retry_after_s)
            except BudgetError as error:
                return Ending(kind=Kind.BUDGET, reason=str(error))
            except ContextError as error:
                return Ending(kind=Kind.CONTEXT, reason=f"the conversation does not fit into the model: {error}")
            except RejectedError as error:
                return Ending(kind=Kind.REJECTED, reason=str(error))
            if ending := self._heed(reply):
                return ending
        used = f"{self.calls} answers with {self.usage.wrote:,} tokens"
        return Ending(kind=Kind.EXHAUSTED, reason=f"no proposal after {used}, which is the bound")

    def _ask(self) -> Reply:
        """One answer. Where there is no room for it, room is made once: old results left out, less asked for."""
        try:
            return self._answer()
        except ContextError as error:
            self._make_room(error)
        return self._answer()

    def _answer(self) -> Reply:
        reply = self.patience.answer(lambda: self.side.ask(self.conversation, self.answer_tokens))
        self.calls += 1
        self.usage += reply.usage
        u, wants = reply.usage, ", ".join(call.name for call in reply.calls) or "nothing"
        _log(f"answer {self.calls}: {u.read:,} tokens read ({u.cached:,} cached), {u.wrote:,} written; wants {wants}")
        if reply.stop is Stop.CONTEXT:
            raise ContextError("the model had no room left for its answer")
        return reply

    def _make_room(self, error: ContextError) -> None:
        shorter = self.answer_tokens > SHORT_ANSWER
        self.answer_tokens = min(self.answer_tokens, SHORT_ANSWER)
        if not self.conversation.make_room() and not shorter:
            raise error
        _log(f"{error}; leaving out old results")

    def _heed(self, reply: Reply) -> Ending | None:
        if reply.stop is Stop.REFUSAL:
            return Ending(kind=Kind.REFUSED, reason=f"the model declined: {' '.join(reply.text.split())[:LOGGED]}")
        self.conversation.turns.append(reply)
        results = self._results(reply.calls)
        if self.desk.submitted:
            return Ending(kind=Kind.SUBMITTED, reason="a proposal was submitted")
        self.idle = 0 if results else self.idle + 1
        if self.idle >= self.bounds.idle:
            return Ending(kind=Kind.EXHAUSTED, reason=f"{self.idle} answers in a row called no tool")
        notes = [CUT] if reply.stop is Stop.LENGTH else [] if results else [NUDGE]
        self.conversation.turns.append(Results(results=results, note=" ".join([*notes, *self._hurry()])))
        return None

    def _results(self, calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
        """In order. After a failure nothing is submitted in the same answer, after a submission nothing done."""
        results: list[ToolResult] = []
        for call in calls:
            if call.name == "submit" and any(result.error for result in results):
                words = "error: an earlier call of this answer failed, so nothing was submitted. Mend that first"
                results.append(ToolResult(call=call.id, text=words, error=True))
            else:
                results.append(self.desk.handle(call))
            if results[-1].error:
                _log(results[-1].text[:LOGGED])
            if self.desk.submitted:
                break
        return tuple(results)

    def _hurry(self) -> list[str]:
        turns, left_s = self.bounds.turns - self.calls, self.patience.remaining_s()
        notes = [f"{turns} answers are left: finish your edit and submit."] if turns <= LAST_TURNS else []
        if left_s < HURRY * self.timeout_s:
            notes.append(f"{left_s:.0f} s are left: finish your edit and submit.")
        return notes


def _log(text: str) -> None:
    sys.stderr.write(text + "\n")
