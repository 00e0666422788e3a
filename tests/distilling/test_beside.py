"""What `reverie distill` tells of a student and its teacher."""

import json

import pytest
import torch
from toys import cli, trained

from reverie.distilling import FILE, STUDENT, TEACHER, Beside, Line, correlation
from reverie.evaluation.numbers import Number


def line(who, evaluations, value, better="lower", tuned=False, error=None):
    number = Number("fid", "FID", value, error=error, better=better)
    return Line(who, "adams" if who == TEACHER else "jump", tuned, evaluations, evaluations, 1.0, number)


def test_it_tells_the_best_of_the_teacher_in_as_few_evaluations_and_where_it_draws_level():
    lines = (
        line(STUDENT, 1, 9.0), line(STUDENT, 4, 6.0), line(TEACHER, 2, 30.0), line(TEACHER, 4, 12.0),
        line(TEACHER, 4, 10.0, tuned=True), line(TEACHER, 8, 7.0), line(TEACHER, 50, 6.5),
    )  # fmt: skip
    one, four = Beside({}, lines).told()
    assert one == (
        "1 evaluation: the student has 9, and the teacher makes no samples in so few; the teacher is as good from 8 "
        "evaluations on"
    )
    assert four == (
        "4 evaluations: the student has 6, the teacher 10 by adams, tuned; the teacher is never as good, up to 50 "
        "evaluations"
    )


def test_higher_may_be_better():
    lines = (line(STUDENT, 2, 0.7, "higher"), line(TEACHER, 2, 0.8, "higher"), line(TEACHER, 1, 0.9, "higher"))
    (said,) = Beside({}, lines).told()
    assert "the teacher 0.9" in said
    assert said.endswith("as good from 1 evaluations on")


def test_it_says_where_two_lie_within_their_errors():
    for error, within in ((0.9, True), (0.5, False), (None, False)):
        (said,) = Beside({}, (line(STUDENT, 2, 6.0, error=error), line(TEACHER, 2, 7.0, error=error))).told()
        assert ("no more apart than their errors" in said) == within


def test_the_correlation_is_that_of_each_example():
    a = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert correlation(a, 3 * a + 7) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)
    b = torch.randn(5, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = [float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1]) for x, y in zip(a, b, strict=True)]
    assert correlation(a, b) == pytest.approx(sum(wanted) / 5)
    assert correlation(a, torch.ones_like(a)) == 0


def test_the_command_prints_and_stores_both_beside_each_other(tmp_path):
    out = tmp_path / "s"
    result = cli(
        "distill", trained(), "--method", "progressive", "--steps", "2", "--out", out, "train.steps=4",
        "train.batch=8", "-n", "24", "--metric", "sliced_wasserstein", "--extractor", "pixels",
    )  # fmt: skip
    assert result.code == 0, result
    stored = json.loads((out / FILE).read_text())
    who = [(each["who"], each["steps"]) for each in stored["lines"]]
    assert who == [(TEACHER, 2), (TEACHER, 4), (TEACHER, 50), (STUDENT, 2)]
    alike = [each["alike"] for each in stored["lines"]]
    assert alike[:3] == [None, None, None]
    assert alike[3] > 0.5  # it began as its teacher, and starts from the same noise
    assert (out / FILE).with_suffix(".png").stat().st_size > 0
    assert "student, ddim" in result.out
    assert "2 evaluations: the student has" in result.out
    assert max(map(len, result.out.split("model and sampler")[1].splitlines()[:5])) <= 100
