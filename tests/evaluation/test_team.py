"""Work that is shared gives what one would have made of it, in order, and a failure reaches everybody."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from reverie.evaluation import team as module
from reverie.evaluation.team import Team, one_thread


@pytest.fixture
def threads():
    """Sets how many threads operations take, and puts that back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_tasks(n, count, threads):
    threads(count)
    assert Team().map(lambda task: task * task, range(n)) == [task * task for task in range(n)]


@pytest.mark.parametrize("size", [2, 3])
def test_processes_deal_the_tasks_out_and_put_them_back_in_order(size, monkeypatch):
    """Each process is run in turn, and their exchange is played by hand."""
    own: dict[int, list] = {}
    for index in range(size):
        monkeypatch.setattr(Team, "_joined", lambda self, results, count, failed: own.update({self.index: results}))
        Team(index, size).map(lambda task: -task, range(10))
    assert sorted(-r for results in own.values() for r in results) == list(range(10))
    monkeypatch.undo()

    def gathered(every, given):
        every[:] = [(own[i], None) for i in range(size)]

    monkeypatch.setattr("torch.distributed.all_gather_object", gathered)
    for index in range(size):
        assert Team(index, size).map(lambda task: -task, range(10)) == [-task for task in range(10)]


def test_a_process_that_fails_is_told_of_on_all_others(monkeypatch):
    def gathered(every, given):
        every[:] = [given, ([], "the disk is full")]

    monkeypatch.setattr("torch.distributed.all_gather_object", gathered)
    with pytest.raises(ValueError, match="process 1 failed: the disk is full"):
        Team(0, 2).map(lambda task: task, range(4))


def test_a_failure_is_raised_where_it_happens(threads):
    def work(task):
        if task == 5:
            raise ValueError("no fifth")
        return task

    for count in (1, 2):
        threads(count)
        with pytest.raises(ValueError, match="no fifth"):
            Team().map(work, range(10))


def test_a_network_gives_the_same_bits_whatever_the_number_of_threads(threads):
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU(), nn.Conv2d(32, 8, 3, stride=2))
    x = torch.randn(24, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for count in (1, 2, 3):
        threads(count)
        with torch.no_grad():
            found.append(Team().map(lambda i: net(x[i]).detach().numpy(), range(24)))
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_every_thread_does_its_operations_alone(threads):
    threads(2)
    seen = set()
    barrier = threading.Barrier(2, timeout=20)

    def work(task):
        if task:
            barrier.wait()  # two at once, or this fails
        seen.add(torch.get_num_threads())
        return task

    Team().map(work, range(5))
    assert seen == {1}
    assert torch.get_num_threads() == 2


def test_one_thread_puts_back_what_was(threads):
    threads(2)
    with one_thread() as before:
        assert (before, torch.get_num_threads()) == (2, 1)
    assert torch.get_num_threads() == 2


def test_the_main_process_is_the_first():
    assert Team().main
    assert not Team(1, 2).main
    assert module.Team.here() == Team()
