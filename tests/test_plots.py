"""Plots: what is drawn is what the formulas say, what is written is not blank, nothing global is touched."""

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import DOUBLE, close, every_schedule, gaussian, mixture, named, randn
from PIL import Image

from reverie import plots
from reverie.data.points import SwissRoll
from reverie.exact import Gaussian, GaussianMixture
from reverie.pictures import read_metadata
from reverie.samplers import DDIM, Ancestral
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine, Flow, LinearVP, Table
from reverie.spaces import Pixels
from reverie.tensors import host, streams

ALPHA, SIGMA, LOG_SNR, DRIFT, DIFFUSION, LEGEND = range(6)


def curve(figure, panel, line=0):
    """A line of a panel: t and its values."""
    x, y = figure.axes[panel].lines[line].get_data()
    return torch.as_tensor(np.asarray(x)), torch.as_tensor(np.asarray(y))


def cloud(panel):
    """The points of a panel."""
    return torch.from_numpy(np.asarray(panel.collections[0].get_offsets()))


def quiver(panel):
    """Where the arrows of a panel start, and the arrows."""
    found = panel.collections[1]
    at, vectors = np.asarray(found.get_offsets()), np.stack([np.asarray(found.U), np.asarray(found.V)], 1)
    return torch.from_numpy(at), torch.from_numpy(vectors)


def plane(n=200, seed=0):
    return randn(n, 2, seed=seed)


# ----------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("schedule", **every_schedule)
def test_lines_are_the_schedule(schedule):
    figure = plots.schedules({"it": schedule}, points=101)
    for panel, exact in ((ALPHA, schedule.alpha), (SIGMA, schedule.sigma), (LOG_SNR, schedule.log_snr)):
        t, y = curve(figure, panel)
        assert close(y, exact(t))
        assert bool(y.isfinite().all())
    (t, alpha), (_, sigma), (inner, log_snr) = (curve(figure, panel) for panel in (ALPHA, SIGMA, LOG_SNR))
    assert close(t, torch.linspace(0, 1, 101, dtype=DOUBLE))
    assert len(inner) == 101 - 1 - schedule.ends_in_noise()
    assert close(log_snr, (2 * (alpha / sigma).log())[1 : 1 + len(inner)], 1e-9)


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), linear_vp=LinearVP(), table=Table.cosine()))
def test_variance_is_preserved_on_the_page(schedule):
    figure = plots.schedules({"it": schedule})
    assert close(curve(figure, ALPHA)[1] ** 2 + curve(figure, SIGMA)[1] ** 2, torch.ones(501), 1e-12)


def test_drift_and_diffusion_are_those_of_the_papers():
    figure = plots.schedules({"vp": LinearVP(), "ve": VE(), "flow": Flow()}, points=201)
    t, f = curve(figure, DRIFT)
    assert close(f, -(0.1 + 19.9 * t) / 2, 1e-9)
    t, g2 = curve(figure, DIFFUSION)
    assert close(g2, 0.1 + 19.9 * t, 1e-9)
    t, f = curve(figure, DRIFT, 1)
    assert bool((f == 0).all())
    t, g2 = curve(figure, DIFFUSION, 1)
    own = t > 0.01  # above the ramp sigma is geometric
    assert close(g2[own], 2 * math.log(80 / 0.002) / (1 - 1e-3) * VE().sigma(t[own]) ** 2, 1e-6)
    t, f = curve(figure, DRIFT, 2)
    assert close(f, -1 / (1 - t), 1e-9)
    t, g2 = curve(figure, DIFFUSION, 2)
    assert close(g2, 2 * t / (1 - t), 1e-9)


def test_variance_grows_as_the_lines_say():
    """d sigma^2 / dt = 2 f sigma^2 + g^2, by the trapezoidal rule: second order."""
    errors = []
    for points in (101, 201, 401):
        figure = plots.schedules({"it": Cosine()}, points)
        (t, sigma), (tf, f), (tg, g2) = (curve(figure, panel) for panel in (SIGMA, DRIFT, DIFFUSION))
        keep = slice(0, points * 9 // 10)
        assert close(tf[keep], t[keep])
        assert close(tg[keep], t[keep])
        rate = (2 * f[keep] * sigma[keep] ** 2 + g2[keep]).numpy()
        errors.append(abs(np.trapezoid(rate, t[keep]) - float(sigma[keep][-1] ** 2)))
    assert errors[-1] < 1e-4
    assert math.log2(errors[-2] / errors[-1]) > 1.8


def test_every_schedule_has_its_line_and_its_name():
    names = {f"number {i}": Table.linear(10 * i + 10, 0.01, 0.3) for i in range(9)}
    figure = plots.schedules(names, points=11)
    assert [text.get_text() for text in figure.axes[LEGEND].get_legend().get_texts()] == list(names)
    looks = {(line.get_color(), str(line.get_linestyle())) for line in figure.axes[ALPHA].lines}
    assert len(looks) >= 7
    assert all(len(figure.axes[panel].lines) == 9 for panel in range(5))
    assert all(figure.axes[panel].get_xlabel() == "t" and figure.axes[panel].get_title() for panel in range(5))


def test_the_top_decade_has_its_tick():
    ticks = plots.schedules({"ve": VE(high=80.0)}).axes[SIGMA].get_yticks()
    assert list(ticks) == [0, 1, 10, 100]
    ticks = plots.schedules({"ve": VE(high=25.0)}).axes[SIGMA].get_yticks()
    assert list(ticks) == [0, 1, 10]


# ------------------------------------------------------------------------------------- forward


def test_images_go_to_noise_as_the_formula_says():
    x0, times = torch.linspace(-1, 1, 3 * 4 * 5, dtype=DOUBLE).reshape(1, 3, 4, 5), [0.0, 0.3, 1.0]
    rows = {"linear": Table(), "cosine": Cosine(), "exploding": VE()}
    eps = streams([5])(x0)
    figure = plots.forward(x0, rows, times, streams([5]), Pixels())
    panels = iter(figure.axes)
    for schedule in rows.values():
        for t in times:
            a, b = float(schedule.alpha(host(t))), float(schedule.sigma(host(t)))
            x = (a * x0 + b * eps) / max(1.0, math.hypot(a, b))
            shown = torch.from_numpy(np.asarray(next(panels).images[0].get_array()))
            assert torch.equal(shown, Pixels().decode(x)[0].permute(1, 2, 0))
    assert [figure.axes[i].get_ylabel() for i in (0, 3, 6)] == list(rows)
    assert [figure.axes[i].get_title() for i in range(3)] == ["t = 0", "t = 0.3", "t = 1"]
    assert figure.axes[5].get_xlabel() == "σ/α = ∞"


def test_points_go_to_noise_as_the_formula_says():
    x0 = plane()
    figure = plots.forward(x0, {"flow": Flow()}, [0.0, 0.25], streams([(0, i) for i in range(200)]))
    eps = streams([(0, i) for i in range(200)])(x0)
    assert close(cloud(figure.axes[0]), x0)
    assert close(cloud(figure.axes[1]), 0.75 * x0 + 0.25 * eps)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 1, 8, 16), (1, 3, 16, 8)])
def test_titles_and_panels_are_whole_and_panels_have_the_shape_of_the_image(shape):
    figure = plots.forward(torch.rand(shape), {"flow": Flow()}, [0.0, 0.5, 1.0], streams([0]), Pixels())
    plots._painted(figure)
    page = figure.bbox
    for panel in figure.axes:
        drawn, title = panel.get_window_extent(), panel.title.get_window_extent()
        assert drawn.height / drawn.width == pytest.approx(shape[2] / shape[3], rel=1e-6)
        assert drawn.width > 0.75 * page.width / 3
        for box in (title, panel.xaxis.label.get_window_extent()):
            assert page.y0 <= box.y0 < box.y1 <= page.y1


# --------------------------------------------------------------------------------- in the plane


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), ve=VE(), flow=Flow(), chain=Table.linear(40, 0.005, 0.4)))
def test_the_field_is_the_score_of_an_exact_mixture(schedule):
    f, times = mixture(schedule), [0.1, 0.4, 0.9]
    figure = plots.field(f, plane(), torch.zeros_like, times)
    for panel, t in zip(figure.axes, times, strict=True):
        at, drawn = quiver(panel)
        assert at.shape == (plots.ARROWS**2, 2)
        x = at.clone().requires_grad_()
        (score,) = torch.autograd.grad(f.log_density(x, t).sum(), x)
        assert close(drawn, score, 1e-9)
        assert float(at.abs().max()) < panel.get_xlim()[1] == -panel.get_xlim()[0]
        assert close(cloud(panel), float(schedule.alpha(host(t))) * plane())


def test_the_field_shows_times_of_known_noise_unless_told():
    for schedule in (Cosine(), VE(), Flow(), Table()):
        ratios = [2.0, 0.7, 0.25, 0.08]
        times = plots.noise_levels(schedule)
        assert close(torch.tensor([plots._ratio(schedule, t) for t in times]), torch.tensor(ratios), 1e-6)
        titles = [panel.get_title() for panel in plots.field(mixture(schedule), plane(), torch.randn_like).axes]
        assert titles == [f"t = {t:.3g},  σ/α = {r:g}" for t, r in zip(times, ratios, strict=True)]


def test_the_field_is_that_of_the_class_asked_for():
    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=DOUBLE)
    f = GaussianMixture(Flow(), means, 0.3, labels=torch.tensor([0, 1]))
    for label in (0, 1):
        at, drawn = quiver(plots.field(f, plane(), torch.randn_like, [0.5], label).axes[0])
        variance = 0.5**2 * 0.3**2 + 0.5**2
        assert close(drawn, -(at - 0.5 * means[label]) / variance, 1e-9)


def test_lengths_are_in_one_proportion():
    at, drawn = quiver(panel := plots.field(mixture(Cosine()), plane(), torch.randn_like, [0.5]).axes[0])
    arrows = panel.collections[1]
    assert (arrows.angles, arrows.scale_units) == ("xy", "xy")
    spacing = float(at[1, 1] - at[0, 1])
    length = drawn.norm(dim=1) / arrows.scale
    assert float((length < 1.6001 * spacing).double().mean()) == pytest.approx(0.9, abs=0.01)


def exact_step(f, x, t, s):
    """E[x_s | x_t] for data N(m, S): x_t = r x_s + noise, so the pair is normal with covariance r V_s."""
    a, b = f.schedule.at(t, like=x), f.schedule.at(s, like=x)
    m, var = f.means[0], f.stds[0] ** 2
    at, below = a.alpha**2 * var + a.sigma**2, b.alpha**2 * var + b.sigma**2
    return b.alpha * m + a.alpha / b.alpha * below / at * (x - a.alpha * m)


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), ve=VE(), chain=Table.linear(40, 0.005, 0.4)))
def test_the_drift_is_where_an_exact_step_leads(schedule):
    f = Gaussian(schedule, torch.tensor([0.7, -0.4], dtype=DOUBLE), torch.tensor([0.8, 0.5], dtype=DOUBLE))
    times = torch.linspace(1, 0, 41, dtype=DOUBLE)
    figure = plots.process(f, DDIM(), times, plane(50), torch.randn_like, shown=(0.0, 0.3, 1.0))
    for column, (t, s) in enumerate(((0.025, 0.0), (0.3, 0.275), (1.0, 0.975))):
        at, drawn = quiver(figure.axes[6 + column])
        assert close(drawn, exact_step(f, at, host(t), host(s)) - at, 1e-7)
        assert figure.axes[6 + column].get_xlabel() == f"step from t = {t:.3g} to {s:.3g}"


def test_forward_and_reverse_are_what_sampling_gives():
    f, times, x0 = mixture(Cosine()), torch.linspace(1, 0, 9, dtype=DOUBLE), plane(100)
    figure = plots.process(f, Ancestral(0.5), times, x0, streams(range(100)), shown=(0.0, 0.5, 1.0))
    noise = streams(range(100))
    start = prior(f.schedule, 1.0, x0, noise)
    assert close(cloud(figure.axes[5]), start)
    assert close(cloud(figure.axes[3]), generate(f, Ancestral(0.5), times, start, noise=noise))
    eps = noise(x0)
    for panel, t in zip(figure.axes[:3], (0.0, 0.5, 1.0), strict=True):
        assert close(cloud(panel), float(f.schedule.alpha(host(t))) * x0 + float(f.schedule.sigma(host(t))) * eps)
    half = generate(f, Ancestral(0.5), times[:5], start, noise=(again := streams(range(100)), again(x0))[0])
    assert close(cloud(figure.axes[4]), half)


def test_the_time_of_the_grid_that_is_nearest_is_shown():
    f, times = mixture(Flow()), torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=DOUBLE)
    figure = plots.process(f, DDIM(), times, plane(10), torch.randn_like, shown=(0.05, 0.45, 0.9))
    assert [panel.get_title() for panel in figure.axes[:3]] == ["t = 0", "t = 0.6", "t = 1"]


def test_points_that_a_panel_leaves_out_are_counted():
    x0, times = plane(200), torch.tensor([1.0, 0.5, 0.0], dtype=DOUBLE)
    for mean, far in ((20.0, True), (0.0, False)):
        f = Gaussian(Cosine(), torch.full((2,), mean, dtype=DOUBLE), 1.0)
        panel = plots.process(f, DDIM(), times, x0, streams(range(200)), shown=(0.0,)).axes[1]
        outside = int((cloud(panel).abs().amax(1) > panel.get_xlim()[1]).sum())
        assert (outside > 10) == far
        assert [text.get_text() for text in panel.texts] == ([f"{outside} of 200 outside"] if far else [])


# --------------------------------------------------------------------------------------- bound


def test_the_bound_is_drawn_in_bits_in_order_of_time():
    nats = [0.3, 0.0, 0.05, 0.1]
    figure = plots.bound([0.25, 1.0, 0.75, 0.5], nats, prior=0.01, decoder=0.2)
    t, bits = curve(figure, 0)
    assert close(t, torch.tensor([0.25, 0.5, 0.75]))
    assert close(bits, torch.tensor([0.3, 0.1, 0.05], dtype=DOUBLE) / math.log(2))
    assert [float(curve(figure, 0, i)[1]) * math.log(2) for i in (1, 2)] == pytest.approx([0.2, 0.01])
    assert [float(curve(figure, 0, i)[0]) for i in (1, 2)] == [0, 1]
    assert figure.axes[0].get_yscale() == "log"
    total = (sum(nats) + 0.21) / math.log(2)
    assert figure.axes[0].get_title() == f"variational bound: {total:.4g} bits a dimension"


def test_a_density_below_one_has_no_place_on_the_axis_but_counts():
    figure = plots.bound([0.5, 1.0], [0.2, 0.1], prior=0.0, decoder=-1.0)
    assert len(curve(figure, 0, 1)[0]) == len(curve(figure, 0, 2)[0]) == 0
    assert f"{-0.7 / math.log(2):.4g} bits" in figure.axes[0].get_title()
    assert f"decoder: {-1 / math.log(2):.3g}" in [t.get_text() for t in figure.axes[0].get_legend().get_texts()]


# --------------------------------------------------------------------------------------- files


def some(kind):
    x0 = torch.from_numpy(SwissRoll(300).load().items) / 7
    f = GaussianMixture(Cosine(), x0[:50].to(DOUBLE), 0.1)
    return {
        "schedules": lambda: plots.schedules({"cosine": Cosine(), "ve": VE()}),
        "forward": lambda: plots.forward(torch.rand(1, 1, 8, 8), {"flow": Flow()}, [0.0, 1.0], streams([0]), Pixels()),
        "field": lambda: plots.field(f, x0, streams(range(300))),
        "process": lambda: plots.process(f, DDIM(), torch.linspace(1, 0, 5), x0, streams(range(300))),
        "bound": lambda: plots.bound([0.5, 1.0], [0.2, 0.1], 0.01, 0.02),
    }[kind]()


@pytest.mark.parametrize("kind", ["schedules", "forward", "field", "process", "bound"])
def test_a_picture_is_not_blank_says_what_it_is_and_leaves_nothing_open(kind, tmp_path):
    before = plt.get_fignums(), dict(plt.rcParams)
    plots.save(some(kind), tmp_path / "a.png", {"plot": [kind], "seed": 3})
    assert (plt.get_fignums(), dict(plt.rcParams)) == before
    assert read_metadata(tmp_path / "a.png") == {"plot": [kind], "seed": 3}
    with Image.open(tmp_path / "a.png") as picture:
        grey = np.asarray(picture.convert("L"))
    assert min(grey.shape) > 200
    assert 0.005 < (grey < 200).mean() < 0.9
    assert grey[0, 0] == 255


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        plots.save(some("field"), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_drawings_in_lines_carry_their_metadata_too(tmp_path):
    about = {"plot": ["schedule", "cosine"], "seed": 0}
    for name in ("a.svg", "a.PDF"):
        plots.save(some("schedules"), tmp_path / name, about)
    svg = (tmp_path / "a.svg").read_text()
    assert json.dumps(about) in svg
    assert "dc:date" not in svg
    pdf = (tmp_path / "a.PDF").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"cosine" in pdf
    assert b"CreationDate" not in pdf


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.png"
    plots.save(some("bound"), path)
    whole = path.read_bytes()
    with pytest.raises(TypeError):
        plots.save(some("bound"), path, {"a": torch})
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: plots.check_output(path / "a.jpg"), r"ending in .png, .svg or .pdf; given .*a\.jpg"),
        (lambda path: plots.save(some("bound"), path / "a"), r"ending in .png, .svg or .pdf"),
        (lambda path: plots.schedules({}), "no schedule to draw"),
        (lambda path: plots.forward(torch.rand(1, 1, 4, 4), {}, [0.5], streams([0]), Pixels()), "no schedule to draw"),
        (lambda path: plots.forward(torch.rand(1, 2), {"": Flow()}, [-0.1], streams([0])), r"given \[-0.1\]"),
        (lambda path: plots.forward(torch.rand(1, 1, 4, 4), {"": Flow()}, [0.5], streams([0])), "an image .* and its"),
        (lambda path: plots.forward(torch.rand(2, 3), {"": Flow()}, [0.5], streams([0])), r"given \(2, 3\)"),
        (lambda path: plots.field(gaussian(Flow()), randn(5, 3), torch.randn_like), r"points in the plane.*\(5, 3\)"),
        (lambda path: plots.field(mixture(Flow()), plane(5), torch.randn_like, [0.0]), r"times in \(0, 1\]"),
        (lambda path: plots.field(mixture(Flow()), plane(5), torch.randn_like, []), "at least one"),
        (
            lambda path: plots.process(mixture(Flow()), DDIM(), host([1.0, 0.0]), plane(5), torch.randn_like, [1.5]),
            r"times in \[0, 1\], at least one; given \[1.5\]",
        ),
        (lambda path: plots.bound([0.5], [0.1, 0.2], 0.0, 0.0), "given 2 terms and 1 times"),
        (lambda path: plots.bound([], [], 0.0, 0.0), "at least one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path)
    assert not list(tmp_path.iterdir())
