import math

import pytest
import torch
from helpers import DOUBLE, cases, close, every_schedule, randn

from reverie.schedules import VE, Cosine, Flow, Level, Table
from reverie.tensors import host
from reverie.time_labels import Index, LogSigma, LogSNR, Time, TimeLabel

X = randn(4, 3, 2)


@pytest.mark.parametrize("label", **cases(TimeLabel))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_labels_are_finite_and_of_the_shape_of_the_level(schedule, label):
    t = torch.tensor([0.0, 1e-7, 0.5, 1.0], dtype=DOUBLE)
    for like in (X, X.float()):
        value = label(schedule.at(t, like=like))
        assert value.shape == (4, 1, 1)
        assert value.isfinite().all()
    for one in t:
        assert label(schedule.at(one, like=X)).shape == ()


def test_index_is_the_chains_own():
    knots = torch.arange(1, 1001, dtype=DOUBLE) / 1000
    like = torch.zeros(1000, 1, dtype=DOUBLE)
    assert close(Index()(Table().at(knots, like)).flatten(), torch.arange(1000), 1e-11)
    assert Index(50)(Table.linear(50).at(host(1.0), like)) == 49


def test_log_snr_is_a_quarter_of_it_clipped():
    level = Level(host(0.5), host(0.6), host(0.8))
    assert close(LogSNR()(level), 0.25 * math.log(0.36 / 0.64))
    assert close(LogSNR(2.0, 0.3)(level), -0.6)
    assert LogSNR()(Cosine().at(host(0.0), X)) == 5
    assert LogSNR()(Cosine().at(host(1.0), X)) == -5


def test_log_sigma_is_edms():
    for sigma in (0.002, 0.5, 80.0):
        level = Level(host(0.5), host(1.0), host(sigma))
        assert close(LogSigma()(level), math.log(sigma) / 4)
    assert LogSigma()(VE().at(host(0.0), X)) == -2.5
    assert LogSigma(1.0, 3.0)(Flow().at(host(1.0), X)) == 3


def test_time_is_t():
    assert close(Time()(Flow().at(host(0.3), X)), 300.0)
    assert close(Time(2.0)(Flow().at(host(0.3), X)), 0.6)
