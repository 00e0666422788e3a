"""Work in parts, shared by processes and threads, with the same results whoever does them.

What a network computes depends, in its last bits, on how many threads share one operation. So on a CPU
each part is done by one thread from beginning to end, and as many parts are done at once as there are threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[int]:
    """Operations inside take one thread each, those of numpy and of threads begun here too; how many there were."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield before
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Team:
    """The processes that share the work: this one is number `index` of `size`."""

    index: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Team:
        """The processes of torch.distributed, or this one alone."""
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def main(self) -> bool:
        """Whether this process prints and writes."""
        return self.index == 0

    def map(
        self,
        work: Callable[[Task], Result],
        tasks: Sequence[Task],
        device: torch.device | str = "cpu",
        done: Callable[[int], object] = lambda n: None,
    ) -> list[Result]:
        """What `work` makes of every task, in their order, on every process.

        Tasks are dealt out in turn. The first one is done alone, so that what is made once is made once.

        Args:
            work: a function of its task alone. Its results travel between processes, so they are on the CPU.
            tasks: the same on every process.
            device: where the work is done; only on a CPU do threads share it.
            done: told how many tasks of this process are finished.

        Raises:
            ValueError: another process failed; on that one, what `work` raised.
        """
        own = tasks[self.index :: self.size]
        results: list[Result] = []
        failed: Exception | None = None
        with one_thread() as threads:
            try:
                for result in self._each(work, own, threads if torch.device(device).type == "cpu" else 1):
                    results.append(result)
                    done(len(results))
            except Exception as error:
                if self.size == 1:
                    raise
                failed = error
        return self._joined(results, len(tasks), failed)

    def told(self, value: Task) -> Task:
        """What the main process says, on every process."""
        if self.size == 1:
            return value
        from torch import distributed

        every: list[Any] = [value]
        distributed.broadcast_object_list(every, src=0)
        told: Task = every[0]
        return told

    def _each(self, work: Callable[[Task], Result], own: Sequence[Task], threads: int) -> Iterator[Result]:
        if own:
            yield work(own[0])
        if threads == 1 or len(own) < 3:
            yield from map(work, own[1:])
            return
        with ThreadPoolExecutor(threads) as pool:
            try:
                yield from pool.map(work, own[1:])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _joined(self, results: list[Result], count: int, failed: Exception | None) -> list[Result]:
        """The results of all processes; where one of them failed, none waits for it in vain."""
        if self.size == 1:
            return results
        from torch import distributed

        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, (results, None if failed is None else str(failed)))
        if failed is not None:
            raise failed
        for index, (_, why) in enumerate(every):
            if why is not None:
                raise ValueError(f"process {index} failed: {why}")
        return [every[i % self.size][0][i // self.size] for i in range(count)]
