"""A device that does what a script says: who has it, who holds its memory, what each look at it finds."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ralph.errors import DeviceError
from ralph.ports import Sample

QUIET = Sample(at_s=0.0, temperature_c=60.0, clock_mhz=1980.0, memory_used_bytes=0)


class ScriptedDevice:
    """The port `Device`. Of each script one entry is used at a time; the last one, or quiet, holds for ever.

    `holders` are answers of `lease`, `occupants` those of `taken`; a text among the `samples` is the reason for which
    the device is lost, and one with an `early` finds all that wait at work there. Looks are `step_s` seconds apart,
    whatever the time.
    """

    def __init__(
        self,
        *,
        name: str = "cuda:0",
        holders: Iterable[str] = (),
        occupants: Iterable[str] = (),
        samples: Iterable[Sample | str] = (),
        sample_s: float = 0.01,
        step_s: float = 2.0,
    ) -> None:
        self.name, self.sample_s, self._step_s = name, sample_s, step_s
        self._holders, self._occupants, self._samples = list(holders), list(occupants), list(samples)
        self.leased, self.looks, self.roots = False, 0, list[int | None]()
        self.waited: set[tuple[int, ...]] = set()

    def lease(self) -> str:
        """The next of `holders`."""
        holder = self._holders.pop(0) if self._holders and not self.leased else ""
        self.leased = not holder
        return holder

    def release(self) -> None:
        """It is free again."""
        self.leased = False

    def taken(self) -> str:
        """The next of `occupants`; the last one stays."""
        if not self._occupants:
            return ""
        return self._occupants.pop(0) if len(self._occupants) > 1 else self._occupants[0]

    def sample(self, root: int | None, waiting: Sequence[int] = ()) -> Sample:
        """The next of `samples`; the last one stays."""
        self.roots.append(root)
        self.waited.add(tuple(waiting))
        self.looks += 1
        found: Sample | str = QUIET
        if self._samples:
            found = self._samples.pop(0) if len(self._samples) > 1 else self._samples[0]
        if isinstance(found, str):
            raise DeviceError(f"{self.name} is lost: {found}")
        return replace(found, at_s=self.looks * self._step_s, early=tuple(waiting) if found.early else ())
