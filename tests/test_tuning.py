"""Tuning a run: what a sampler costs, the file, which grid serves which settings, and that it is the better one."""

import json
import re
import warnings
from dataclasses import replace

import pytest
import torch
from helpers import DETERMINISTIC, DOUBLE, labelled, named
from toys import copied, hashes, trained

import reverie
from reverie import config
from reverie.fitting import Error, error, fine_times
from reverie.grids import Karras, Tuned, Uniform
from reverie.guidance import AdaptiveProjectedGuide, ClassifierFreeGuide, ClassifierGuide
from reverie.request import Request, condition
from reverie.runs import Run, load
from reverie.samplers import DDIM, Ancestral, Heun, Sampler, Weighed
from reverie.samplers.adams import Adams
from reverie.sampling import generate
from reverie.schedules import Flow
from reverie.synthesis import synthesize
from reverie.tensors import streams
from reverie.tuning import (
    FILE,
    Count,
    Damaged,
    Settings,
    Tuning,
    choose,
    described,
    evaluations,
    model_of,
    planned,
    read,
    steps_within,
    tune,
    write,
)

FOUR, TWO = (1.0, 0.8, 0.5, 0.1, 0.0), (1.0, 0.4, 0.0)
QUICK = {"n": 8, "reference_steps": 24, "seconds": 2.0}


class Exact(torch.nn.Module):
    """An exact denoiser of points by class, as a network of the run would be called."""

    def __init__(self, schedule, shape):
        super().__init__()
        self.schedule, self.shape = schedule, shape
        self.f = labelled(schedule)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, cond=None):
        """The mixture in the plane for every pair of numbers."""
        pairs = x.reshape(-1, 2).double()
        many = len(pairs) // len(x)
        if cond is not None:
            cond = cond[torch.arange(len(x)).repeat_interleave(many)]
            cond = replace(cond, label=cond.label % 2)
        q = self.f(pairs, t, cond)
        return reverie.Prediction.of(q.x0.reshape(x.shape).to(x), q.eps.reshape(x.shape).to(x), self.schedule.at(t, x))


def with_exact(run):
    run.__dict__["denoiser"] = Exact(run.schedule, run.facts.shape)
    return run


@pytest.fixture
def run(tmp_path):
    return load(copied(tmp_path / "run"))


def tuning(run, sampler=None, guidance=1.5, **others):
    counts = (Count(2, 2, TWO, {"tuned": Error(0.1, 0.05)}, {"seed": 0}), Count(4, 4, FOUR))
    made = Tuning(model_of(run), sampler or run.sampler, guidance, False, run.schedule, counts)
    return replace(made, **others)


# ------------------------------------------------------------------------------------------ cost


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [(DDIM(), lambda n: n), (Adams(), lambda n: n), (Heun(), lambda n: 2 * n - 1)],
)
def test_evaluations_are_counted(sampler, expected):
    for steps in (1, 2, 5, 12):
        assert evaluations(sampler, Flow(), steps) == expected(steps)


@pytest.mark.parametrize("sampler", **named(**DETERMINISTIC))
def test_no_more_steps_fit_into_the_evaluations(sampler):
    wide, narrow = (evaluations(sampler, Flow(), 4, 0.999, std) for std in (1.0, 0.05))
    assert sampler.adaptive == (wide != narrow)
    if sampler.adaptive:
        return
    least = evaluations(sampler, Flow(), 1, 0.999)
    for limit in (least, 7, 12):
        if limit < least:
            continue
        cost, steps = steps_within(sampler, Flow(), limit, 0.999)
        assert cost == evaluations(sampler, Flow(), steps, 0.999) <= limit
        assert evaluations(sampler, Flow(), steps + 1, 0.999) > limit


def test_fewer_evaluations_than_one_step_takes():
    class Twice(DDIM):
        def step(self, f, x, t, s, cond, noise, state):
            f(x, t, cond)
            return super().step(f, x, t, s, cond, noise, state)

    assert steps_within(Twice(), Flow(), 5) == (4, 2)
    with pytest.raises(ValueError, match="takes 2 evaluations for its first step; given 1"):
        steps_within(Twice(), Flow(), 1)


# -------------------------------------------------------------------------------------- the file


def test_what_is_written_is_read(run):
    first, second = tuning(run), tuning(run, Adams(), 2.0)
    write(run.path, [first, second])
    assert read(run.path) == (first, second)


def test_a_run_without_the_file_has_nothing(run):
    assert read(run.path) == ()
    assert described(run) == "not yet"


def test_a_count_that_is_fitted_again_replaces_its_own_alone(run):
    made = tuning(run).merged([Count(3, 3, (1.0, 0.6, 0.2, 0.0)), Count(2, 2, (1.0, 0.9, 0.0))])
    assert [c.evaluations for c in made.counts] == [2, 3, 4]
    assert made.counts[0].times == (1.0, 0.9, 0.0)
    assert made.counts[2].times == FOUR


def damage(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("format"), "no format number"),
        (lambda d: d.pop("tunings"), "tunings must be a list"),
        (lambda d: d["tunings"].append(3), r"tunings\[1\] must be a table"),
        (lambda d: d["tunings"][0].pop("sampler"), r"tunings\[0\].sampler is missing"),
        (lambda d: d["tunings"][0].update(sampler={"kind": "magic"}), "unknown sampler 'magic'"),
        (lambda d: d["tunings"][0].update(guidance="much"), "guidance must be float"),
        (lambda d: d["tunings"][0]["counts"][1].update(steps=3), r"counts\[1\]: 3 steps need 4 times"),
        (lambda d: d["tunings"][0]["counts"][1]["times"].reverse(), "fall strictly"),
        (lambda d: d["tunings"][0]["counts"][0]["errors"]["tuned"].pop("rms"), r"errors.tuned.rms is missing"),
        (lambda d: d["tunings"][0]["counts"][0].update(extra=1), "unknown setting .*extra"),
        (lambda d: d["tunings"][0]["counts"][0].update(weights=[[1.0, 0.5]]), "2 steps need as many rows of weights"),
        (lambda d: d["tunings"][0]["counts"][0].update(weights=[[1.0, 0.5], [1.0]]), r"row 1 is \[1.0\]"),
    ],
)
def test_damage_is_named_and_sampling_goes_on_without(run, change, says):
    damage(write(run.path, [tuning(run)]), change)
    with pytest.raises(Damaged, match=says):
        read(run.path)
    found = choose(run, run.recipe.sample)
    assert not found.tuned
    assert found.sampling == run.recipe.sample
    assert f"{FILE} is damaged" in found.note
    assert "the grid is uniform" in found.note
    assert "damaged" in described(run)


def test_half_a_file_is_damage_and_one_of_a_newer_version_is_none(run):
    path = write(run.path, [tuning(run)])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Damaged, match="not well-formed"):
        read(run.path)
    path.write_text("[1, 2]")
    with pytest.raises(Damaged, match=r"damaged \(must hold a table of settings, not list\)$") as caught:
        read(run.path)
    assert str(caught.value).count(str(path)) == 1
    path.write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99, written by a newer Reverie") as caught:
        read(run.path)
    assert not isinstance(caught.value, Damaged)
    with pytest.raises(ValueError, match="format 99"):
        tune(run, Settings(nfe=(2,), **QUICK))
    assert path.read_text() == '{"format": 99}'


# ------------------------------------------------------------------------------------ the choice


def test_settings_take_the_tuned_grid_and_a_grid_that_is_given_wins(run):
    own = run.settings()
    write(run.path, [tuning(run)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = run.settings(steps=4)
        assert isinstance(made.grid, Tuned)
        assert made.grid(run.schedule).tolist() == list(FOUR)
        assert made.sampler == own.sampler
        assert run.settings(steps=3).grid(run.schedule).shape == (4,)
        assert run.settings().grid == made.grid.with_steps(own.grid.steps)
        assert run.settings(grid=Karras(), steps=4).grid == Karras(4)
        assert run.settings(Ancestral(), steps=4).grid == Uniform(4)
    assert model_of(run)[:16] in made.grid.origin


def test_samples_follow_the_stored_times(run):
    write(run.path, [tuning(run, guidance=2.0), tuning(run, Heun(), 2.0)])
    for sampler in (run.sampler, Heun()):
        made = run.settings(sampler, steps=4, guidance=2.0)
        shape, noise = run.facts.shape, streams([(5, i) for i in range(3)])
        x, cond = noise(torch.empty(3, *shape)), condition([0, 1, 2], "cpu")
        f = reverie.ClassifierFree(run.denoiser, 2.0)
        by_hand = generate(f, sampler, torch.tensor(FOUR, dtype=DOUBLE), x, cond)
        drawn = synthesize(run.denoiser, shape, made, Request((0, 1, 2), seed=5))
        assert torch.allclose(drawn, by_hand, atol=1e-4)
    (run.path / FILE).unlink()
    plain = with_exact(run).sample(3, seed=5)
    write(run.path, [tuning(run)])
    assert not torch.equal(run.sample(3, seed=5), plain)
    assert torch.equal(run.sample(3, seed=5), run.sample(3, seed=5, sampling=run.settings()))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"guidance": 3.1}, "fitted with guidance 1.5, 2, not 3.1; .*--guidance 3.1"),
        ({"guidance": 0.0}, "fitted with guidance 1.5, 2, not 0"),
        ({"sampler": DDIM()}, "fitted for adams, not for ddim; .*--sampler ddim"),
        ({"sampler": Adams(order=2)}, "fitted for adams with other settings, not .*--sampler adams sampler.order=2`"),
        ({"sampler": DDIM(), "guidance": 3.1}, "not for ddim; .*--sampler ddim --guidance 3.1`"),
    ],
)
def test_other_settings_than_those_tuned_are_said(run, asked, says):
    write(run.path, [tuning(run), tuning(run, guidance=2.0)])
    with pytest.warns(UserWarning, match=says):
        made = run.settings(steps=4, **asked)
    assert made.grid == Uniform(4)


def test_a_guidance_near_by_serves_and_is_said(run):
    """At most a factor of 1.5 away, the nearest one."""
    others = tuning(run, guidance=2.0).merged([Count(4, 4, (1.0, 0.9, 0.6, 0.2, 0.0))])
    write(run.path, [tuning(run, guidance=1.0), others])
    for asked, times, name in (
        (1.4, FOUR, "1"),
        (1.5, others.counts[1].times, "2"),
        (3.0, others.counts[1].times, "2"),
    ):
        with pytest.warns(UserWarning, match=f"the grid was tuned with guidance {name}, not {asked:g}; `reverie tune"):
            made = run.settings(steps=4, guidance=asked)
        assert made.grid(run.schedule).tolist() == list(times)
        assert made.guidance == asked
        assert f"guidance {name};" in made.grid.origin


def test_clipping_is_another_denoiser(run):
    write(run.path, [tuning(run)])
    found = choose(run, replace(run.recipe.sample, clip=True))
    assert not found.tuned
    assert f"not for adams, clipped; `reverie tune {run.path} clip=true` fits one" in found.note


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"guide": AdaptiveProjectedGuide()}, r"drawn with guide\.kind=adaptive_projected and no threshold"),
        ({"threshold": 0.9}, r"drawn with classifier-free guidance and threshold=0\.9"),
    ],
)
def test_another_guide_or_threshold_is_another_denoiser(run, asked, says):
    write(run.path, [tuning(run)])
    sampling = replace(run.settings(Ancestral(), steps=4, guidance=1.5), sampler=run.sampler, **asked)
    found = choose(run, sampling)
    assert (found.sampling, found.tuned) == (sampling, False)
    assert re.search(rf"the grid is uniform, not a tuned one: .*fitted with classifier-free .*{says}", found.note)
    write(run.path, [tuning(run), tuning(run, **asked)])  # unless fitted with it
    assert read(run.path)[1] == tuning(run, **asked)
    assert choose(run, sampling).tuned
    assert set(json.loads((run.path / FILE).read_text())["tunings"][0]) & set(asked) == set()


def test_a_guide_at_its_neutral_scale_is_none(run):
    write(run.path, [tuning(run, guidance=1.0)])
    for guide, scale in (
        (ClassifierGuide("there"), 0.0),
        (AdaptiveProjectedGuide(), 1.0),
        (ClassifierFreeGuide(), 1.0),
    ):
        found = choose(run, replace(run.recipe.sample, grid=Uniform(4), guide=guide, guidance=scale))
        assert (found.tuned, found.why) == (True, "")
    assert not choose(run, replace(run.recipe.sample, guide=ClassifierGuide("there"), guidance=1.0)).tuned


def test_what_is_fitted_is_kept_with_its_guide(run):
    own = replace(run.recipe.sample, guide=AdaptiveProjectedGuide(eta=0.5), guidance=2.0, threshold=0.9)
    guided = with_exact(Run(run.path, replace(run.recipe, sample=own), run.facts, run.about))
    made = tune(guided, Settings((2,), n=4, reference_steps=10, seconds=0.0))
    assert (made.guide, made.threshold, made.guidance) == (own.guide, 0.9, 2.0)
    assert choose(guided, own).tuned
    assert not choose(run, replace(own, guide=None, threshold=0.0)).tuned


def test_other_weights_make_it_stale_until_they_come_back(run):
    write(run.path, [tuning(run)])
    weights = run.denoiser.net.state_dict()
    run.save_model({k: v + 0.01 for k, v in weights.items()}, 12)
    with pytest.warns(UserWarning, match="fitted to other weights than the run has now; `reverie tune"):
        assert run.settings(steps=4).grid == Uniform(4)
    with pytest.warns(UserWarning, match="other weights"):
        run.sample(1)
    assert described(run) == "1 fitted to other weights"
    run.save_model(weights, 12)
    assert isinstance(run.settings(steps=4).grid, Tuned)


ROWS = ((0.9, -0.3), (1.05, -0.5, 0.2), (0.95, -0.4, 0.1, 0.07), (0.8, -0.2, 0.3, -0.1, 0.02))


def test_stored_weights_serve_the_steps_and_guidance_they_were_fitted_for(run):
    made = tuning(run, guidance=2.0)
    made = made.merged([replace(made.counts[1], weights=ROWS)])
    write(run.path, [made])
    assert read(run.path) == (made,)
    found = run.settings(steps=4, guidance=2.0).sampler
    assert isinstance(found, Weighed)
    assert (found.method, found.weights) == (run.sampler, ROWS)
    found.check(run.schedule, torch.tensor(FOUR, dtype=DOUBLE))
    assert run.settings(steps=2, guidance=2.0).sampler == run.sampler  # tuned, without weights
    assert run.settings(steps=3, guidance=2.0).sampler == run.sampler  # in between
    assert run.settings(grid=Karras(), steps=4, guidance=2.0).sampler == run.sampler
    with pytest.warns(UserWarning, match="tuned with guidance 2, not 1.5"):
        assert run.settings(steps=4, guidance=1.5).sampler == run.sampler


def test_tuned_weights_are_stored_and_sampled_with(run, monkeypatch):
    """Kept here in any case; the error told is that of the stored weights."""
    with_exact(run)
    monkeypatch.setattr("reverie.tuning.judging.serving", lambda without, weighed: 0)
    made = tune(run, Settings((3,), guidance=1.5, n=8, reference_steps=60, seconds=0.0)).counts[0]
    assert made.about["grid"] == "weighed"
    assert len(made.weights) == 3
    sampling = run.settings(steps=3, guidance=1.5)
    assert sampling.sampler.weights == made.weights
    x = streams([(0, 8 + i, 7) for i in range(8)])(torch.empty(8, *run.facts.shape))
    cond = condition([(8 + i) % 10 for i in range(8)], "cpu")
    f, times = reverie.ClassifierFree(run.denoiser, 1.5), torch.tensor(made.times, dtype=DOUBLE)
    truth = generate(f, Adams(), fine_times(run.schedule, 1.0, 300), x, cond)
    found = error(generate(f, sampling.sampler, times, x, cond), truth)
    assert made.errors["tuned"].rms == pytest.approx(found.rms, rel=0.02)
    assert made.errors["tuned"].median == pytest.approx(found.median, rel=0.02)
    own = replace(sampling, sampler=run.sampler)
    assert not torch.equal(*(run.sample(2, [0, 1], seed=5, sampling=each) for each in (sampling, own)))


def test_without_classes_guidance_does_not_matter(tmp_path):
    run = load(copied(tmp_path / "run", "labels=false"))
    write(run.path, [tuning(run, guidance=1.0)])
    assert isinstance(run.settings(steps=4, guidance=3.0).grid, Tuned)
    with pytest.raises(ValueError, match="trained without classes"):
        tune(run, Settings(nfe=(2,), guidance=2.0, **QUICK))


# --------------------------------------------------------------------------------------- the fit


def test_the_tuned_grid_is_the_best_of_those_measured(run):
    with_exact(run)
    done = []
    made = tune(
        run, Settings(nfe=(6, 4), sampler=Adams(), guidance=1.5, n=32, reference_steps=100, seconds=6.0),
        lambda share, what: done.append((share, what)),
    )  # fmt: skip
    assert [c.evaluations for c in made.counts] == [4, 6]
    for c in made.counts:
        assert {"tuned", "angle", "uniform", "karras", "log_snr"} == set(c.errors)
        assert c.errors["tuned"].rms < 0.9 * min(e.rms for name, e in c.errors.items() if name != "tuned")
        assert c.about["examples"] == 32
    assert made.counts[1].errors["tuned"].rms < made.counts[0].errors["tuned"].rms
    shares = [share for share, _ in done]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert any("reference" in what for _, what in done)


def test_errors_are_those_of_samples_from_other_noise(run):
    """The error told is that of the stored times from the second half of the noise, against a fine solution."""
    with_exact(run)
    made = tune(run, Settings(nfe=(5,), sampler=DDIM(), guidance=1.5, seed=3, **{**QUICK, "reference_steps": 200}))
    count = made.counts[0]
    x = streams([(3, 8 + i, 7) for i in range(8)])(torch.empty(8, *run.facts.shape))
    cond = condition([(8 + i) % 10 for i in range(8)], "cpu")
    f = reverie.ClassifierFree(run.denoiser, 1.5)
    truth = generate(f, Heun(), Uniform(500)(run.schedule), x, cond)
    each = (generate(f, DDIM(), torch.tensor(count.times, dtype=DOUBLE), x, cond) - truth).square().flatten(1).mean(1)
    assert count.errors["tuned"].rms == pytest.approx(float(each.mean().sqrt()), rel=0.01)
    assert count.errors["tuned"].median == pytest.approx(float(each.sqrt().median()), rel=0.01)


def test_tuning_again_keeps_the_other_counts_and_settings(run):
    write(run.path, [tuning(run), tuning(run, DDIM(), 2.0)])
    before = hashes(run.path)
    made = tune(run, Settings(nfe=(3,), **QUICK))
    assert [c.evaluations for c in made.counts] == [2, 3, 4]
    assert {t.sampler for t in read(run.path)} == {run.sampler, DDIM()}
    assert read(run.path)[-1] == made
    assert {k for k, v in hashes(run.path).items() if before.get(k) != v} == {FILE}


@pytest.mark.parametrize("clip", [None, True])
def test_clipping_is_the_runs_own_unless_given(run, clip):
    made = tune(run, Settings(nfe=(3,), clip=clip, **QUICK))
    assert made.clip == bool(clip)
    asked = [replace(run.recipe.sample, clip=c) for c in (False, True)]
    assert [choose(run, sampling).tuned for sampling in asked] == [not clip, bool(clip)]


def test_damage_is_kept_beside_what_is_written_anew(run):
    """The newest damage where there is some already."""
    for old in ("{", json.dumps({"format": 1, "tunings": [{"sampler": {"kind": "magic"}}]})):
        (run.path / FILE).write_text(old)
        with pytest.warns(RuntimeWarning, match=rf"{FILE} is damaged \(.*\); it is kept as {FILE}.damaged") as caught:
            made = tune(run, Settings(nfe=(3,), **QUICK))
        assert caught[0].filename == __file__
        assert read(run.path) == (made,)
        assert (run.path / f"{FILE}.damaged").read_text() == old
    told = []
    tune(run, Settings(nfe=(2,), **QUICK), notice=told.append)
    assert told == []


def test_a_file_without_what_a_run_completes_still_serves(run):
    """As one of before the sampler had that field; a fit then goes on with it."""
    assert None not in (run.sampler.std, run.sampler.density)
    bare = replace(run.sampler, density=None)
    write(run.path, [tuning(run, bare), tuning(run, Adams(order=2))])
    damage(run.path / FILE, lambda d: d["tunings"][0]["sampler"].pop("density"))
    made = run.settings(steps=4)
    assert made.grid(run.schedule).tolist() == list(FOUR)
    assert made.sampler == run.sampler
    assert isinstance(run.settings(Adams(order=2), steps=4).grid, Tuned)
    write(run.path, [*read(run.path), tuning(run).merged([Count(3, 3, (1.0, 0.6, 0.2, 0.0))])])
    fitted = tune(run, Settings(nfe=(5,), **QUICK))
    assert [c.evaluations for c in fitted.counts] == [2, 3, 4, 5]
    assert fitted.sampler == run.sampler
    assert len(read(run.path)) == 2


def test_a_self_conditioned_model_is_tuned_as_it_is_sampled(tmp_path):
    run = load(copied(tmp_path / "run", "loss.kind=self_conditioned"))
    made = tune(run, Settings(nfe=(3,), sampler=DDIM(), **QUICK))
    assert run.denoiser.self_conditioned
    tuned, angle = (made.counts[0].errors[name] for name in ("tuned", "angle"))
    assert tuned.rms * tuned.median <= angle.rms * angle.median
    assert isinstance(run.settings(DDIM(), steps=3).grid, Tuned)


def test_a_fit_that_is_cut_short_is_no_worse_than_what_all_have(run):
    with_exact(run)
    for c in tune(run, Settings(nfe=(5, 9), sampler=DDIM(), n=8, reference_steps=24, seconds=0.0)).counts:
        found = {name: e.rms * e.median for name, e in c.errors.items() if name in ("tuned", "angle", "uniform")}
        assert found["tuned"] <= min(found.values())
        assert c.about["grid"] in ("tuned", "angle", "uniform")


def test_the_same_seed_gives_the_same_grid(run):
    one, two = (tune(run, Settings(nfe=(3,), sampler=DDIM(), n=8, reference_steps=24)) for _ in range(2))
    assert one.counts[0].times == two.counts[0].times
    assert one.counts[0].errors == two.counts[0].errors


def test_what_another_fit_wrote_meanwhile_stays(run):
    other = tuning(run, guidance=2.0)

    def write_other(done, what):
        if done < 1 and not (run.path / FILE).exists():
            write(run.path, [other])

    made = tune(run, Settings(nfe=(2,), **QUICK), write_other)
    assert read(run.path) == (other, made)


def test_counts_a_sampler_cannot_make_are_rounded_down(run):
    assert planned(run, Settings(nfe=(5, 6, 8), sampler=Heun())) == ((5, 5, 3), (6, 5, 3), (8, 7, 4))
    assert [c.evaluations for c in tune(run, Settings(nfe=(5, 6), sampler=Heun(), **QUICK)).counts] == [5]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"nfe": ()}, "1 to 1000, such as 5,10,20; given none"),
        ({"nfe": (5, 0)}, "given 5, 0"),
        ({"nfe": (1001,)}, "given 1001"),
        ({"guidance": -1.0}, "guidance must be at least 0"),
        ({"guidance": float("nan")}, "guidance must be at least 0"),
        ({"n": 1}, "n must be at least 2"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"reference_steps": 3}, "reference_steps must be at least 10"),
        ({"seconds": float("nan")}, "seconds must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Settings(**settings)


def test_a_sampler_that_draws_noise_is_refused(run):
    with pytest.raises(ValueError, match=r"ancestral, draws noise.*--sampler adams"):
        tune(run, Settings(nfe=(5,), sampler=Ancestral()))
    for kind, cls in config.registered(Sampler).items():
        if kind == "adaptive":
            with pytest.raises(ValueError, match="chooses its steps itself"):
                tune(run, Settings(nfe=(50,), sampler=cls()))


def test_a_run_not_saved_yet_is_refused(tmp_path):
    from toys import begun

    run, _ = begun(tmp_path / "run")
    with pytest.raises(ValueError, match="not saved yet"):
        tune(run, Settings(nfe=(5,)))


def test_a_toy_that_is_shared_has_no_file():
    assert not (trained() / FILE).exists()
