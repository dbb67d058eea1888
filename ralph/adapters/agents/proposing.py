"""From facts, history and texts to the tuner's proposal and the edited texts. Pure: no file is read or written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ralph.adapters.agents.contract import ContractError, Facts
from ralph.adapters.agents.evidence import comparisons
from ralph.adapters.agents.memory import Memory, read_memory
from ralph.adapters.agents.moves import Move, Situation, choose
from ralph.adapters.agents.wording import Wording, expectation, hypothesis, learnings
from ralph.core.constants import Constant, parse_constants, replace_constants
from ralph.core.literals import Literal
from ralph.core.search_space import Dimension, dimension, other_profile, widened
from ralph.model import Proposal

_WIDENINGS = (0.0, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One constant where it stands: `written` is the text of its value."""

    constant: Constant
    written: str


def propose(
    facts: Facts, texts: Mapping[str, str], history: Iterable[str], seed: int, brief: str = ""
) -> tuple[Proposal, dict[str, str]]:
    """The proposal, and the new text of the files that change.

    Raises:
        ContractError: when there is nothing to tune, or everything near was tried.
    """
    found = _find(texts)
    current = {key: f.constant.value for key, f in found.items()}
    memory = _with_incumbent(read_memory(history, facts.direction, current, facts.sigma), facts)
    space = _space(found, memory, facts.device)
    if not space:
        raise ContractError(
            f"no tunable constant in {', '.join(facts.editable)}: give it module-level UPPER_CASE numbers"
        )
    situation, move = _choose(space, memory, current, facts, seed)
    words = Wording(facts.direction, memory.sigma)
    shown = comparisons(memory, space)
    proposal = Proposal(
        hypothesis=hypothesis(situation, move, shown, words),
        expected=expectation(move, words),
        learnings=learnings(shown, brief, list(memory.records), words),
    )
    return proposal, _edited(texts, move.values)


def _find(texts: Mapping[str, str]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for path, text in texts.items():
        try:
            parsed = parse_constants(text)
        except SyntaxError as error:
            raise ContractError(
                f"{path} does not parse: {error.msg} (line {error.lineno}); nothing was changed"
            ) from None
        found |= {f"{path}:{c.name}": Found(constant=c, written=text[c.start : c.end]) for c in parsed}
    return found


def _with_incumbent(memory: Memory, facts: Facts) -> Memory:
    """The incumbent's score as it is known now, after it was measured again."""
    record = memory.records.get(facts.incumbent_id) if facts.incumbent_id is not None else None
    if record is None or facts.incumbent_score is None:
        return memory
    known = replace(record, loss=facts.direction.sign * facts.incumbent_score, runs=facts.incumbent_runs)
    return replace(memory, records={**memory.records, record.id: known})


def _space(found: Mapping[str, Found], memory: Memory, device: str) -> tuple[Dimension, ...]:
    """Dimensions around the baseline's values; a constant whose value now has no place in its range is left out."""
    made = (
        dimension(key, _like(memory.baseline.get(key), f.constant.value), f.constant.comment, f.written)
        for key, f in found.items()
        if not other_profile(f.constant.name, device)
    )
    usable = [d for d in made if d is not None and d.place(found[d.key].constant.value) is not None]
    return widened(usable, [{**r.constants} for r in memory.kept()])


def _like(baseline: Literal | None, value: Literal) -> Literal:
    """The baseline's value, unless the constant has become another kind of thing since."""
    return value if baseline is None or type(baseline) is not type(value) else baseline


def _choose(
    space: tuple[Dimension, ...], memory: Memory, current: Mapping[str, Literal], facts: Facts, seed: int
) -> tuple[Situation, Move]:
    kept = list(memory.kept())
    record = memory.records.get(facts.incumbent_id) if facts.incumbent_id is not None else None
    losses = [r.loss for r in (record, *reversed(kept)) if r is not None and r.loss is not None]
    for by in _WIDENINGS:
        wider = widened(space, [], by)
        situation = Situation(
            space=wider,
            memory=memory,
            current=current,
            incumbent={d.key: z for d in wider if (z := d.place(current[d.key])) is not None},
            loss=losses[0] if losses else 0.0,
            code=kept[-1].code if kept else 0,
            seed=seed,
            reach=1.0 + by,
            under_way=facts.in_flight,
        )
        move = choose(situation, skip=len(facts.refusals))
        if move is not None:
            return situation, move
    raise ContractError(
        f"every value near the incumbent of {len(space)} constants was tried; widen the ranges or edit the code"
    )


def _edited(texts: Mapping[str, str], values: Mapping[str, Literal]) -> dict[str, str]:
    by_file: dict[str, dict[str, Literal]] = {}
    for key, value in values.items():
        path, _, name = key.rpartition(":")
        by_file.setdefault(path, {})[name] = value
    return {path: replace_constants(texts[path], changes) for path, changes in by_file.items()}
