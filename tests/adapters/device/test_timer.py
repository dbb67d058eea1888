"""A descriptor that wakes whoever waits for it."""

import select

from ralph.adapters.device.timer import Timer


def test_it_fires_again_and_again_and_says_so_once_each_time() -> None:
    timer = Timer()
    assert timer.drain() is False
    timer.every(0.01)
    for _ in range(2):
        assert select.select([timer], [], [], 10)[0]
        assert timer.drain() is True
    timer.every(3600)
    assert timer.drain() is False
    timer.close()
    timer.close()
