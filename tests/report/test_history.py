import json

import pytest

from reverie.report.history import Series, finite, read


def written(tmp_path, *lines):
    (tmp_path / "metrics.jsonl").write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return read(tmp_path)


def test_series_hold_what_was_logged_in_order_of_steps(tmp_path):
    found = written(tmp_path, {"step": 2, "loss": 0.5}, {"step": 1, "loss": 0.7}, {"step": 3, "loss": None})
    assert found.series("loss") == Series((1, 2), (0.7, 0.5))
    assert found.series("nothing") == Series()
    assert found.last_step == 3


def test_broken_lines_are_named_by_number(tmp_path):
    found = written(
        tmp_path, {"step": 1, "loss": 1.0}, '{"step": 2, "lo', {"loss": 1.0}, "[1]", {"step": 4, "loss": 2.0}
    )
    assert found.series("loss").steps == (1, 4)
    (damage,) = found.damage
    assert damage.where == "metrics.jsonl"
    assert "lines 2, 3, 4 are" in damage.why


@pytest.mark.parametrize("value", ["x", True, [1.0], {"a": 1}, None, float("nan"), float("inf"), 10**400])
def test_what_is_no_number_is_no_point(tmp_path, value):
    assert not finite(value)
    assert len(written(tmp_path, {"step": 1, "loss": value}).series("loss")) == 0


def test_levels_need_as_many_bounds_and_one_more(tmp_path):
    good = {"step": 1, "validation_loss": 1.0, "by_level": [1.0, 2.0], "t_bounds": [0.0, 0.5, 1.0]}
    found = written(tmp_path, good, good | {"step": 2, "t_bounds": [0.0, 1.0]}, good | {"step": 3, "by_level": "x"})
    assert [(one.step, one.values, one.bounds) for one in found.levels] == [(1, (1.0, 2.0), (0.0, 0.5, 1.0))]


def test_evaluations_are_parted_by_quantity_and_protocol(tmp_path):
    def line(at, **told):
        return {"step": at, "evaluation": told}

    found = written(
        tmp_path,
        line(10, metric="FID", value=3.0, step=10, protocol="a"),
        line(20, metric="FID", value=2.0, step=20, protocol="a"),
        line(30, metric="FID", value=9.0, step=30, protocol="b"),
        line(40, metric="KID", value=1.0),
        {"step": 50, "evaluation": "broken"},
        line(60, metric="FID", value="broken", protocol="a"),
    )
    told = {(one.metric, one.protocol): one.series for one in found.evaluations}
    assert told == {
        ("FID", "a"): Series((10, 20), (3.0, 2.0)),
        ("FID", "b"): Series((30,), (9.0,)),
        ("KID", ""): Series((40,), (1.0,)),
    }


def test_seconds_are_steps_over_speed(tmp_path):
    found = written(
        tmp_path, {"step": 10, "steps_per_second": 5.0}, {"step": 40, "steps_per_second": 10.0}, {"step": 50}
    )
    assert found.seconds == 10 / 5 + 30 / 10
    assert written(tmp_path, {"step": 10}).seconds is None


@pytest.mark.parametrize("n", [1, 7, 400, 401, 1234, 10_000])
def test_thinning_keeps_the_mean_and_the_last_step(n):
    values = tuple(float((i * 37) % 101) for i in range(n))
    thin = Series(tuple(range(1, n + 1)), values).thinned(400)
    assert len(thin) <= 400
    assert thin.steps[-1] == n
    sizes = [b - a for a, b in zip((0, *thin.steps[:-1]), thin.steps, strict=True)]
    assert sum(size * v for size, v in zip(sizes, thin.values, strict=True)) == pytest.approx(sum(values), rel=1e-12)


def test_a_run_without_measurements_has_an_empty_history(tmp_path):
    assert read(tmp_path).lines == ()
    assert read(tmp_path).damage == ()
