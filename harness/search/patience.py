"""How long a driver that has nothing else to do waits for measurements."""

from collections.abc import Callable


class Patience:
    def __init__(self, clock: Callable[[], float], hours: float) -> None:
        """`clock` gives seconds. It is over when nothing was heard for so many hours."""
        self._clock, self._hours, self._last = clock, hours, clock()

    def heard(self) -> None:
        """Something: a training ended, or a measurement came."""
        self._last = self._clock()

    @property
    def is_over(self) -> bool:
        return self._clock() - self._last >= 3600 * self._hours


def awaited(count: int) -> str:
    """`2 candidates await a measurement: ...`"""
    who = "1 candidate awaits" if count == 1 else f"{count:,} candidates await"
    return (
        f"{who} a measurement: the same command goes on when it has come, and with it (`harness latency queue` says "
        "what keeps it)"
    )
