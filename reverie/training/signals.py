"""Stopping when the system asks for it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """Hears SIGINT and SIGTERM, which ask for a stop after the step under way.

    Attributes:
        asked: the signal that this process got, if one.
    """

    def __init__(self) -> None:
        self.asked: int | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, a first signal is noted, and a second one acts as usual.

        Two within a second are one: torchrun passes on what its processes have got from the system already.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        times: list[float] = []

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = number
            times.append(time.monotonic())
            if times[-1] - times[0] > 1:
                signal.signal(number, before[signal.Signals(number)])
                signal.raise_signal(number)

        for s in before:
            signal.signal(s, ask)
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)
