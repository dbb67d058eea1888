"""The experiments of a campaign by id: the latest and those that matter whole, of the others one short row in memory.

Where there is somebody to `read` them from the ledger again, settled experiments that nobody looks back on leave the
memory; asked for by id they are read. Those that were kept stay, without the texts of their runs and refusals. Rows are
for what looks at all experiments: some thirty bytes each.
"""

import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Set
from dataclasses import dataclass, field, replace

from ralph.core.codec import decode, encode
from ralph.core.statistics import mean
from ralph.model import Experiment, Phase, Run, Verdict

LOOK_BACK = 1000  # experiments that are whole in memory: nothing looks back further but by id

_VERDICTS = tuple(Verdict)
_FAILED = (Verdict.CRASH, Verdict.INVALID, Verdict.VOID)


@dataclass(slots=True, kw_only=True)
class Rows:
    """What is known of each experiment that has a verdict, by id, in columns.

    `verdicts` are 1 for the first of `Verdict` and so on, 0 for none; `scores` are means, NaN where there is none, and
    `errors` their standard errors as far as the scorer states them; `runs` counts the scores; `run_s` are seconds on
    the device; `committed` is 1 where there is a commit; `known` and `stale` count verdicts of others, which do not
    follow from an experiment's own entries. `discarded` are ids of those with a score, `failed` of all others that were
    not kept, each in the order of their verdicts.
    """

    verdicts: "array[int]" = field(default_factory=lambda: array("B"))
    scores: "array[float]" = field(default_factory=lambda: array("d"))
    errors: "array[float]" = field(default_factory=lambda: array("d"))
    runs: "array[int]" = field(default_factory=lambda: array("H"))
    run_s: "array[float]" = field(default_factory=lambda: array("d"))
    committed: "array[int]" = field(default_factory=lambda: array("B"))
    known: "array[int]" = field(default_factory=lambda: array("I"))
    stale: "array[int]" = field(default_factory=lambda: array("I"))
    discarded: "array[int]" = field(default_factory=lambda: array("I"))
    failed: "array[int]" = field(default_factory=lambda: array("I"))

    def put(self, e: Experiment) -> None:
        """The row of an experiment that has a verdict, or its row as it is now."""
        if e.verdict is None:
            return
        if (more := e.id + 1 - len(self.verdicts)) > 0:
            for counts in (self.verdicts, self.runs, self.committed, self.known, self.stale):
                counts.extend([0] * more)
            for measures in (self.scores, self.errors, self.run_s):
                measures.extend([math.nan] * more)
        if not self.verdicts[e.id]:
            if e.verdict is Verdict.DISCARD and e.scores:
                self.discarded.append(e.id)
            elif e.verdict in _FAILED:
                self.failed.append(e.id)
        self.verdicts[e.id] = _VERDICTS.index(e.verdict) + 1
        self.scores[e.id] = mean(e.scores) if e.scores else math.nan
        self.errors[e.id] = stated_error(e)
        self.runs[e.id] = min(len(e.scores), 0xFFFF)
        self.run_s[e.id], self.committed[e.id] = e.run_s, bool(e.commit)
        self.known[e.id], self.stale[e.id] = e.known, e.stale

    def verdict(self, id: int) -> Verdict | None:  # noqa: A002 - the word of the ledger
        """The verdict of one experiment, if it has one."""
        known = 0 <= id < len(self.verdicts) and self.verdicts[id]
        return _VERDICTS[known - 1] if known else None


def stated_error(e: Experiment) -> float:
    """The standard error of a mean score from those that the scorer states; NaN if it does not for every run."""
    stated = [r.score_se for r in e.runs if r.score is not None and not r.failed]
    known = [se for se in stated if se is not None]
    return math.sqrt(sum(x * x for x in known)) / len(known) if known and len(known) == len(stated) else math.nan


class Shelf(MutableMapping[int, Experiment]):
    """Experiments by id. Without `read` all of them stay whole."""

    def __init__(self, read: Callable[[int], Experiment] | None = None) -> None:
        self.rows = Rows()
        self.last = -1
        self._read = read
        self._whole: dict[
            int, Experiment | bytes
        ] = {}  # bytes are one as an index on disk has it, not looked at so far
        self._slim: set[int] = set()
        self._gone = 0
        self._next, self._due = 0, list[int]()

    def __getitem__(self, id: int) -> Experiment:  # noqa: A002 - the word of the ledger
        """One experiment, from the ledger if it is not in memory."""
        found = self._whole.get(id)
        if isinstance(found, Experiment):
            return found
        if found is not None:
            e: Experiment = decode(Experiment, json.loads(found))
            self._whole[id] = e
            return e
        if self._read is None or id not in self:
            raise KeyError(id)
        return replace(self._read(id), known=self.rows.known[id], stale=self.rows.stale[id])

    def several(self, ids: Iterable[int]) -> list[Experiment]:
        """These, of which most are in memory: a thousand of them are asked for often."""
        whole = self._whole
        return [e if isinstance(e := whole.get(id_), Experiment) else self[id_] for id_ in ids]

    def __setitem__(self, id: int, e: Experiment) -> None:  # noqa: A002
        """The experiment as it is now."""
        if id not in self._whole:
            self._gone -= id in self
            if id < self._next:
                self._due.append(id)
        self._whole[id] = e
        self.last = max(self.last, id)
        self.rows.put(e)

    def __delitem__(self, id: int) -> None:  # noqa: A002
        """No experiment is ever taken back."""
        raise TypeError(f"experiment {id} cannot be forgotten")

    def __contains__(self, id: object) -> bool:  # noqa: A002
        """Whether it began."""
        return id in self._whole or (isinstance(id, int) and self.rows.verdict(id) is not None)

    def __len__(self) -> int:
        """How many have begun."""
        return len(self._whole) + self._gone

    def __iter__(self) -> Iterator[int]:
        """Ids in their order."""
        return (id_ for id_ in range(self.last + 1) if id_ in self)

    def whole(self, id: int) -> Experiment:  # noqa: A002
        """One experiment with every text that the ledger has of it."""
        e = self[id]
        if id not in self._slim or self._read is None:
            return e
        return replace(self._read(id), known=e.known, stale=e.stale)

    def let_go_of_old(self, wanted: Set[int | None]) -> list[int]:
        """Let go of what is settled and older than anybody looks back on, but for what is `wanted` or runs again."""
        if self._read is None:
            return []
        while self._next < self.last - LOOK_BACK:
            if self._next in self._whole:
                self._due.append(self._next)
            self._next += 1
        gone = [id_ for id_ in self._due if id_ not in wanted and _is_over(self[id_])]
        for id_ in gone:
            self._let_go(id_)
        return gone

    def _let_go(self, id: int) -> None:  # noqa: A002
        """Keep of an experiment only its row; of one that was kept what compares it with others."""
        self._due.remove(id)
        if (e := self[id]).verdict is Verdict.KEEP:
            self._whole[id] = _slim(e)
            self._slim.add(id)
        else:
            del self._whole[id]
            self._gone += 1

    # --- as an index on disk has it

    def standing(self) -> tuple[dict[str, object], dict[int, bytes]]:
        """What there is beside the rows: plain numbers, and the experiments in memory as JSON."""
        numbers = {"last": self.last, "gone": self._gone, "next": self._next, "due": self._due}
        whole = {id_: e if isinstance(e, bytes) else _json(e) for id_, e in self._whole.items()}
        return {**numbers, "slim": sorted(self._slim)}, whole

    def stand(self, numbers: dict[str, object], whole: dict[int, bytes], rows: Rows) -> None:
        """Be as another shelf was when `standing` was asked. Raises ValueError when that cannot be."""
        last, gone, next_, due, slim = (numbers.get(name) for name in ("last", "gone", "next", "due", "slim"))
        if not (isinstance(last, int) and isinstance(gone, int) and isinstance(next_, int)):
            raise ValueError("the numbers of the shelf are none")  # noqa: TRY004 - data, not an argument
        if not (isinstance(due, list) and isinstance(slim, list) and {*due, *slim} <= whole.keys()):
            raise ValueError("the shelf lacks what it says it has")
        self.last, self._gone, self._next, self._due, self._slim = last, gone, next_, due, set(slim)
        self._whole, self.rows = {**whole}, rows


def _json(e: Experiment) -> bytes:
    return json.dumps(encode(Experiment, e)).encode()


def _is_over(e: Experiment) -> bool:
    return e.phase is Phase.DONE and e.open_run is None


def _slim(e: Experiment) -> Experiment:
    return replace(e, why="", refusals=(), drafts=(), runs=tuple(map(_slim_run, e.runs)))


def _slim_run(run: Run) -> Run:
    """Seeds, seconds and scores; what a program said, and what was seen of the device, is in the ledger."""
    return Run(
        number=run.number, seed=run.seed, for_id=run.for_id, started=run.started, outcome=run.outcome, crash=run.crash,
        setup_s=run.setup_s, train_s=run.train_s, export_s=run.export_s, seconds=run.seconds, peak_bytes=run.peak_bytes,
        scored=run.scored, score=run.score, score_se=run.score_se, score_s=run.score_s,
    )  # fmt: skip
