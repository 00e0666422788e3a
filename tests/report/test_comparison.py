"""Several runs side by side: numbers only where the protocol is the same."""

from dataclasses import replace

import pytest
from reported import evaluation, full, write
from toys import copied

from reverie.report import compare
from reverie.runs import load


def compared(tmp_path, *runs):
    return compare([load(run) for run in runs], tmp_path / "c.html", date="today")


def test_settings_that_differ_and_no_other(tmp_path):
    made = compared(tmp_path, copied(tmp_path / "a"), copied(tmp_path / "b", "train.lr=0.01", "sample.guidance=3.0"))
    assert made.differences == (("train.lr", "0.001", "0.01"), ("sample.guidance", "1.5", "3.0"))
    assert made.same_losses
    assert made.names == ("a", "b")
    told = {row[0]: row[1:] for row in made.facts}
    assert told["steps"] == ("12", "12")
    assert told["trained on"] == ("1,617", "1,617")


def test_runs_of_one_name_are_told_apart(tmp_path):
    made = compared(tmp_path, copied(tmp_path / "a" / "run"), copied(tmp_path / "b" / "run"))
    assert made.names == ("a/run", "b/run")
    assert made.differences == ()


def test_numbers_stand_side_by_side_where_the_protocol_is_the_same(tmp_path):
    a, b = full(tmp_path / "a"), full(tmp_path / "b", found=evaluation(fid=9.0))
    made = compared(tmp_path, a, b)
    ((protocol, table),) = made.tables.items()
    assert protocol == evaluation().id
    assert table.rows[0] == ("FID (pixels) ↓", "12.35 ± 0.12", "9.00 ± 0.12", "3.25")
    assert (0, 2) in table.strong
    assert (0, 1) not in table.strong
    assert {(1, 1), (1, 2)} <= table.strong  # a tie
    assert made.alone == ()


@pytest.mark.parametrize("other", [{"sets": 5}, {"n": 100}])
def test_numbers_of_other_protocols_are_kept_apart(tmp_path, other):
    found = evaluation(fid=9.0, **other)
    made = compared(tmp_path, full(tmp_path / "a"), full(tmp_path / "b", found=found))
    assert made.tables == {}
    assert made.alone == (f"protocol {evaluation().id}: a alone", f"protocol {found.id}: b alone")
    text = (tmp_path / "c.html").read_text()
    assert "cannot be compared" in text
    assert "9.00 ±" not in text


def test_losses_of_other_kinds_are_said_to_be_so(tmp_path):
    made = compared(tmp_path, copied(tmp_path / "a"), copied(tmp_path / "b", "data.kind=swissroll"))
    assert not made.same_losses
    assert "not of one scale" in (tmp_path / "c.html").read_text()


def test_names_in_the_page_are_escaped_and_damage_is_named(tmp_path):
    a, b = full(tmp_path / "<b>a$x$"), copied(tmp_path / "_b")
    (a / "evaluation" / "broken.json").write_text("{")
    made = compared(tmp_path, a, b)
    text = (tmp_path / "c.html").read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;a$x$" in text
    assert [d.where for d in made.damage] == ["<b>a$x$/evaluation/broken.json"]


def test_too_few_runs(tmp_path):
    run = copied(tmp_path / "run")
    with pytest.raises(ValueError, match="at least 2 runs; given 1"):
        compared(tmp_path, run)
    with pytest.raises(ValueError, match="given twice"):
        compared(tmp_path, run, run)


def test_parts_of_another_kind_stand_in_one_row(tmp_path):
    made = compared(tmp_path, copied(tmp_path / "a"), copied(tmp_path / "b", "sample.sampler.kind=heun"))
    ((key, one, other),) = made.differences
    assert key == "sample.sampler"
    assert one.startswith("adams")
    assert other.startswith("heun")


def test_of_several_evaluations_by_one_protocol_those_drawn_alike_are_compared(tmp_path):
    def drawn(fid, steps, day):
        found = evaluation(fid)
        protocol = {**found.protocol, "samples": {**found.protocol["samples"], "steps": steps}}
        return replace(found, protocol=protocol, about={"date": f"2026-11-{day}"})

    a, b = full(tmp_path / "a", found=drawn(5.0, 20, 10)), full(tmp_path / "b", found=drawn(7.0, 20, 10))
    write(a / "evaluation" / "other.json", drawn(99.0, 5, 20).to_data())
    made = compared(tmp_path, a, b)
    ((_, table),) = made.tables.items()
    assert table.rows[0][1:3] == ("5.00 ± 0.12", "7.00 ± 0.12")
    assert "Each of 300 samples, 20 steps." in (tmp_path / "c.html").read_text()
