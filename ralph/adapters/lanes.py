"""Several lanes on one machine: a runner and a scorer for each, and which devices they are."""

from collections.abc import Sequence

from ralph.config import Config
from ralph.errors import ConfigError
from ralph.events import RunEnded, Scored
from ralph.model import EarlyStop
from ralph.ports import Job, Runner, RunOrder, ScoreOrder, Scorer


def lane_devices(config: Config, device: str, gpus: Sequence[str]) -> tuple[str, ...]:
    """The device of each lane. GPUs: those that the arena names in lanes.devices; else, if run.device names none in
    particular, all of the first one's kind, since scores of different kinds cannot be compared.

    Args:
        config: the arena's.
        device: what run.device turned out to be: "cpu", "cuda:N" or "none".
        gpus: the kind of each GPU of this machine, in torch's order.

    Raises:
        ConfigError: a GPU that is not there or of another kind; lanes on a device that has one.
    """
    lanes = config.lanes
    if device == "none":
        return ("none",) * lanes.count
    if lanes.count > 1:
        raise ConfigError(
            f'lanes.count = {lanes.count} goes with run.device = "none"; on {device} a run has its device for itself. '
            'Name GPUs with lanes.devices = ["cuda:0", "cuda:1"]'
        )
    if device == "cpu":
        if lanes.devices:
            raise ConfigError(f"lanes.devices names {', '.join(lanes.devices)}, but runs are on the CPU here")
        return ("cpu",)
    kinds = {f"cuda:{index}": kind for index, kind in enumerate(gpus)}
    if missing := [each for each in lanes.devices if each not in kinds]:
        raise ConfigError(f"lanes.devices names {missing[0]}, but torch sees {', '.join(kinds) or 'no GPU'}")
    if odd := [each for each in lanes.devices if kinds[each] != kinds[lanes.devices[0]]]:
        first = lanes.devices[0]
        raise ConfigError(f"{odd[0]} is a {kinds[odd[0]]}, {first} a {kinds[first]}: their scores cannot be compared")
    if lanes.devices or config.run.device not in ("auto", "cuda"):
        return lanes.devices or (device,)
    return tuple(each for each, kind in kinds.items() if kind == kinds[device])


def shown_alone(uuid: str) -> dict[str, str]:
    """The environment in which a GPU is the only one: what runs on it calls it cuda:0. Empty if its UUID is unknown."""
    if not uuid:
        return {}
    return {"CUDA_VISIBLE_DEVICES": uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"}


class LaneRunner:
    """The port `Runner` on several lanes; each has one of its own. A lane that is gone since shares another one."""

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._runners = tuple(runners)

    def _of(self, order: RunOrder) -> Runner:
        return self._runners[order.lane % len(self._runners)]

    def remains(self, order: RunOrder) -> RunEnded | None:
        """How it ended, if it did before a restart."""
        return self._of(order).remains(order)

    def prepare(self, order: RunOrder) -> None:
        """Start its process early, for its lane."""
        self._of(order).prepare(order)

    def prepared(self, order: RunOrder) -> bool:
        """Whether that was done, for this lane."""
        return self._of(order).prepared(order)

    def drop(self, order: RunOrder | None = None) -> None:
        """End what was prepared."""
        for runner in self._runners if order is None else (self._of(order),):
            runner.drop(order)

    def start(self, order: RunOrder) -> Job[RunEnded]:
        """Start the run on its lane."""
        return self._of(order).start(order)

    def curve(self, order: RunOrder) -> tuple[float | None, ...]:
        """Its loss so far."""
        return self._of(order).curve(order)

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        """Put on record that it is to be stopped, or spared."""
        self._of(order).mark(order, early)


class LaneScorer:
    """The port `Scorer` on several lanes: a run is scored where it was made."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self._scorers = tuple(scorers)

    def _of(self, order: ScoreOrder) -> Scorer:
        return self._scorers[order.lane % len(self._scorers)]

    def broken_seal(self) -> str:
        """What differs in the sealed copy, which they share."""
        return self._scorers[0].broken_seal()

    def remains(self, order: ScoreOrder) -> Scored | None:
        """What it said, if it did before a restart."""
        return self._of(order).remains(order)

    def prepare(self, order: ScoreOrder) -> None:
        """Start its process early, for its lane."""
        self._of(order).prepare(order)

    def drop(self, order: ScoreOrder | None = None) -> None:
        """End what was prepared."""
        for scorer in self._scorers if order is None else (self._of(order),):
            scorer.drop(order)

    def start(self, order: ScoreOrder) -> Job[Scored]:
        """Start scoring."""
        return self._of(order).start(order)
