"""Removing folders without waiting for it: they go out of the way by a rename, and away in the background.

A folder of a hundred entries takes some 10 ms to be removed, and nobody needs to see that. What a killed supervisor
left in the trash is removed by the next one.
"""

import itertools
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from ralph.adapters.files import remove_tree

SETTLE_S = 30.0  # what somebody who needs the room waits for it
LEAVE_S = 10.0  # what the end of a loop waits for the removal; the next loop does the rest


class Trash:
    """A folder from which everything disappears. On one file system with what is thrown in, or it is no gain.

    A context, in which the thread that removes lives. `complain` is told, by whoever throws next, what could not be
    removed; that is tried again by the next supervisor.
    """

    def __init__(self, folder: Path, complain: Callable[[str], None]) -> None:
        self._folder, self._complain = folder, complain
        self._full = queue.Queue[Path | None]()
        self._complaints = queue.SimpleQueue[str]()
        self._thread = threading.Thread(target=self._empty, name="trash", daemon=True)
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in sorted(self._folder.iterdir()):
            self._full.put(left)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._full.put(None)
        self._thread.join(LEAVE_S)
        self._pass_on()

    def throw(self, path: Path) -> None:
        """Have whatever is at `path` gone from there on return; nothing happens if there is nothing.

        Raises:
            OSError: it could neither be moved nor removed.
        """
        self._pass_on()
        place = self._free_place()
        try:
            path.rename(place)
        except (
            OSError
        ):  # there is nothing, another file system, a folder made unwritable, or nobody has opened the trash
            remove_tree(path)
            return
        self._full.put(place)

    def settle(self) -> None:
        """Wait until all that was thrown in is gone, or could not be removed; for those who need the room."""
        if self._thread.is_alive():
            with self._full.all_tasks_done:
                self._full.all_tasks_done.wait_for(lambda: not self._full.unfinished_tasks, SETTLE_S)

    def _free_place(self) -> Path:
        while (place := self._folder / str(next(self._numbers))).exists():
            continue  # an earlier supervisor's
        return place

    def _pass_on(self) -> None:
        while not self._complaints.empty():
            self._complain(self._complaints.get())

    def _empty(self) -> None:
        while (path := self._full.get()) is not None:
            try:
                remove_tree(path)
            except OSError as error:
                self._complaints.put(f"{path} could not be removed: {error}")
            finally:
                self._full.task_done()
