"""Batches on their way to the step: the same from a thread, a file or the device; how long a step waits is measured."""

import threading
import time

import numpy as np
import pytest
import torch
from toys import begun, metrics, outcome, trained

from reverie.data import Examples
from reverie.runs import load
from reverie.spaces import Pixels, Standardized
from reverie.training import Trainer, batches
from reverie.training.batches import Batches, held, hold
from reverie.training.feed import Feed, mapped, waits

N = 40
ITEMS = np.random.default_rng(0).integers(0, 256, (N, 1, 4, 4), np.uint8)
EXAMPLES = Examples(ITEMS, np.arange(N) % 3, ("a", "b", "c"), image=True)


def on_disk(path):
    """The same examples in a memory map."""
    np.save(path, ITEMS)
    return Examples(np.load(path, mmap_mode="r"), EXAMPLES.labels, EXAMPLES.classes, image=True)


def batches_of(examples, **settings):
    return Batches(examples, np.arange(N - 5), Pixels(), seed=3, batch=8, **{"drop": 0.4, "flip": True, **settings})


def same(a, b):
    """Everything that two steps hold."""
    for p, q in zip(a, b, strict=True):
        assert all(torch.equal(getattr(p, name), getattr(q, name)) for name in ("x0", "u"))
        assert all(torch.equal(getattr(p.cond, name), getattr(q.cond, name)) for name in ("label", "drop"))
        assert torch.equal(p.noise()(p.x0), q.noise()(q.x0))
    return True


# ---------------------------------------------------------------------------- made ahead of time


def test_a_thread_is_used_where_a_batch_may_have_to_wait(tmp_path):
    far = on_disk(tmp_path / "x.npy")
    assert mapped(far.items)
    assert mapped(np.asarray(far.items)[3:])
    assert not mapped(EXAMPLES.items)
    assert waits(far, "cpu")
    assert not waits(EXAMPLES, "cpu")
    assert waits(EXAMPLES, "cuda")
    assert not waits(held(EXAMPLES, "cpu"), "cuda")


def test_batches_made_ahead_are_the_same(tmp_path):
    plain, feed = batches_of(EXAMPLES, parts=2), Feed(batches_of(on_disk(tmp_path / "x.npy"), parts=2), steps=12)
    assert feed.ahead
    for step in (0, 1, 2, 7, 3, 11, 0):  # whatever the order in which they are asked for
        assert same(feed.step(step), plain.step(step))
    feed.close()


def test_a_run_on_a_memory_map_is_the_run_on_what_it_holds(tmp_path):
    run, examples = begun(tmp_path / "run")
    np.save(tmp_path / "x.npy", examples.items)
    far = Examples(np.load(tmp_path / "x.npy", mmap_mode="r"), examples.labels, examples.classes, examples.image)
    for report in Trainer(run, far):
        if report.step == 5:
            break
    for _ in Trainer(load(run.path), far):
        pass
    assert outcome(run.path) == outcome(trained())


class Slow:
    """Batches that take their time; the last one cannot be made."""

    examples, device = EXAMPLES, "cpu"

    def __init__(self, seconds, steps):
        self.seconds, self.steps, self.asked = seconds, steps, []

    def step(self, step):
        self.asked.append(step)
        time.sleep(self.seconds)
        if step == self.steps - 1:
            raise OSError("the disk is gone")
        return [step]


def feed_of(made, ahead, monkeypatch):
    monkeypatch.setattr("reverie.training.feed.waits", lambda examples, device: ahead)
    return Feed(made, made.steps)


def test_an_error_in_the_thread_is_raised_at_its_step(monkeypatch):
    feed = feed_of(Slow(0.0, 3), True, monkeypatch)
    assert [feed.step(0), feed.step(1)] == [[0], [1]]
    with pytest.raises(OSError, match="the disk is gone"):
        feed.step(2)
    feed.close()


def test_nothing_is_made_beyond_the_last_step_and_no_thread_stays(monkeypatch):
    before = threading.active_count()
    feed = feed_of(made := Slow(0.0, 3), True, monkeypatch)
    feed.step(0), feed.step(1)
    with pytest.raises(OSError, match="gone"):
        feed.step(2)
    feed.close()
    assert made.asked == [0, 1, 2]
    assert threading.active_count() == before


def test_the_share_of_waiting_is_measured(monkeypatch):
    """Batches of 20 ms and steps of 60 ms: a quarter of the time, and with a thread nearly none."""
    shares = {}
    for ahead in (False, True):
        feed = feed_of(Slow(0.02, 100), ahead, monkeypatch)
        feed.step(0)
        feed.restart()
        for step in range(1, 6):
            feed.step(step)
            time.sleep(0.06)
        shares[ahead] = feed.waiting()
        assert feed.waiting() < 0.5  # counted from anew
        feed.close()
    assert 0.1 < shares[False] < 0.5
    assert shares[True] < 0.6 * shares[False]


def test_it_is_logged_and_where_it_is_much_a_note_says_what_to_do(tmp_path, monkeypatch):
    encoded = batches.encoded

    def slowly(*given):
        time.sleep(0.1)
        return encoded(*given)

    monkeypatch.setattr(batches, "encoded", slowly)
    run, examples = begun(tmp_path / "run", "train.steps=6", "train.validate_every=100", "train.sample_every=100")
    reports = list(Trainer(run, examples))
    shares = [report.metrics["waiting"] for report in reports if "loss" in report.metrics]
    assert all(0 <= share <= 1 for share in shares)
    assert shares[0] > 0.2
    notes = [note for report in reports for note in report.notes]
    assert len(notes) == 1  # once is enough
    assert "steps wait for their data" in notes[0]
    assert "larger train.batch" in notes[0]
    assert "waiting" not in metrics(run.path)[1]  # which the tests of resuming compare


# ------------------------------------------------------------------------------- held on a device


@pytest.mark.parametrize("space", [Pixels(), Standardized(mean=(3.0,), std=(2.0,))])
def test_examples_held_on_the_device_are_the_same(space):
    items = ITEMS if isinstance(space, Pixels) else ITEMS.astype(np.float32)
    examples = Examples(items, EXAMPLES.labels, EXAMPLES.classes, image=isinstance(space, Pixels))
    made = [Batches(e, np.arange(N - 5), space, 3, 8, flip=True, drop=0.5) for e in (examples, held(examples, "cpu"))]
    assert all(same(made[0].step(step), made[1].step(step)) for step in (0, 5))
    bare = Batches(held(Examples(ITEMS, image=True), "cpu"), np.arange(N), Pixels(), 3, 8).step(0)[0]
    assert bare.cond is None


def test_a_file_that_cannot_be_written_to_is_held_without_a_warning(tmp_path, recwarn):
    far = held(on_disk(tmp_path / "x.npy"), "cpu")
    assert torch.equal(far.items, torch.from_numpy(ITEMS))
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_they_are_held_where_they_take_little_of_what_is_free(monkeypatch):
    assert hold(EXAMPLES, "cpu") is EXAMPLES
    monkeypatch.setattr(batches, "held", lambda examples, device: (examples, device.type))
    for free, kept in ((4 * ITEMS.nbytes, True), (4 * ITEMS.nbytes - 4, False)):
        monkeypatch.setattr(batches, "available", lambda device, free=free: free)
        assert (hold(EXAMPLES, "cuda") == (EXAMPLES, "cuda")) is kept
