"""Students of a run: trained, killed, resumed, saved, sampled and refused as any other run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from staged import latent
from toys import MLP, SHORT, cli, copied, hashes, metrics, outcome, trained

from reverie.conditioning import Cond
from reverie.config import parse_override
from reverie.data import Digits
from reverie.denoiser import Denoiser, reads_scale
from reverie.distilling import METHODS, Asked, plan_for, students
from reverie.distilling.methods import SPENT
from reverie.faster import compiled
from reverie.grids import Uniform
from reverie.plan import Plan
from reverie.recipe import Sampling
from reverie.runs import begin, load
from reverie.samplers import DDIM, Consistency, Heun, Jump
from reverie.synthesis import guided
from reverie.tensors import host
from reverie.training import Trainer

TOLD = ("train.steps=6", "train.batch=8", "train.save_every=3", "train.warmup=1")
SMALL = ("loss.most=8", "loss.first=2")
STEPS = {"distribution_matching": "2"}
READY = ("parameterization.kind=v",)
"""Of a teacher whose output is of use to few steps as it is."""


def student(out, method, *words, teacher=None, steps=None, guidance="1"):
    """A student by the command line."""
    source = trained() if teacher is None else teacher
    lessons = ("--guidance", guidance) if METHODS[method].lessons else ()
    return cli(
        "distill", source, "--method", method, "--steps", steps or STEPS.get(method, "1,2"), "--out", out, "-n", "0",
        *lessons, *TOLD, *words,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_each_method_makes_a_run_that_samples_as_it_has_learned_and_in_no_other_way(tmp_path, method):
    result = student(tmp_path / "s", method)
    assert result.code == 0, result
    run = load(tmp_path / "s")
    images = run.sample(4, label=3, seed=3)
    assert images.shape == (4, 1, 8, 8)
    assert run.sample(4, label=3, seed=3).equal(images)
    assert run.sample(2, label=3, seed=3, start=2).equal(images[2:])
    before = trained()
    weights, own = load(before).denoiser.state_dict(), run.denoiser.state_dict()
    assert any(not torch.equal(own[name], weights[name]) for name in weights)
    right = METHODS[method].sampler
    if run.recipe.loss.flows and not run.recipe.loss.leaps:  # of reflow: a model as any other
        assert run.sample(2, sampling=Sampling(sampler=Heun(), grid=Uniform(3))).shape == (2, 1, 8, 8)
        return
    with pytest.raises(ValueError, match="DDIM" if right == "ddim" else f"sampler.kind={right}"):
        run.sample(2, sampling=Sampling(sampler=Heun(), grid=Uniform(50)))
    refused = cli("sample", tmp_path / "s", "--sampler", "ancestral", "--steps", "50")
    assert refused.code == 1
    assert "ancestral" in refused.err


def test_a_student_of_one_step_names_the_sampler_that_is_its_own(tmp_path):
    assert student(tmp_path / "s", "progressive", steps="1").code == 0
    told = cli("sample", tmp_path / "s", "--sampler", "ddpm", "--steps", "50").err
    assert "the 1 steps of DDIM" in told
    assert cli("sample", tmp_path / "s", "--sampler", "ddim", "--steps", "2").code == 1


def test_halvings_stand_inside_one_another_and_each_begins_as_the_one_before(tmp_path):
    assert student(tmp_path / "s", "progressive", steps="1,2,4").code == 0
    asked = Asked("progressive", (1, 2, 4), (1.0, 1.0), tmp_path / "s")
    folders = students(load(trained()), asked)
    assert {n: load(path).recipe.loss.grid.steps for n, path in folders.items()} == {1: 1, 2: 2, 4: 4}
    assert {n: load(path).recipe.loss.substeps for n, path in folders.items()} == {1: 2, 2: 2, 4: 8}
    assert load(folders[1]).recipe.train.start == str(folders[2])
    imitating = load(folders[4]).stage("teacher")
    assert (imitating.recipe.loss.kind, imitating.recipe.parameterization.kind) == ("imitation", "v")
    original = imitating.stage("teacher").denoiser.state_dict()
    assert all(torch.equal(original[name], value) for name, value in load(trained()).denoiser.state_dict().items())
    wrong = student(tmp_path / "t", "progressive", steps="2,3")
    assert wrong.code == 1
    assert "divide" in wrong.err


def test_a_student_begins_as_its_teacher_also_where_it_is_told_more(tmp_path):
    teacher = trained(*READY)
    for method, guidance in (("mean_flow", "1"), ("shortcut", "1,3"), ("consistency", "1,3")):
        out = tmp_path / method
        assert student(out, method, "train.steps=0", teacher=teacher, guidance=guidance).code == 0
        f, g = load(out).denoiser, load(teacher).denoiser
        assert isinstance(f, Denoiser)
        x, t = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)), host([0.1, 0.3, 0.5, 0.9, 1.0])
        torch.testing.assert_close(f(x, t).x0, g(x, t).x0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("progressive", ()), ("consistency", (*SMALL, "loss.doubling=2")), ("scm", ("loss.loss.warmup=4",)),
        ("mean_flow", ()), ("distribution_matching", ()), ("reflow", ()), ("shortcut", ()), ("imitation", ()),
    ],
)  # fmt: skip
def test_a_student_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, method, words):
    teacher = load(trained(*READY))
    told = {"train": {"steps": 6, "batch": 8, "save_every": 2, "warmup": 1, "log_every": 1}}
    layers = (told, *(parse_override(word) for word in words))
    steps = (2,) if METHODS[method].single else (1, 2)

    def begun(name):
        plan = plan_for(teacher, Asked(method, steps, (1.0, 1.0), tmp_path / name, layers))
        examples = plan.recipe.data.load()
        return begin(tmp_path / name, plan.recipe, examples, dict(plan.stages)), examples

    whole, examples = begun("whole")
    list(Trainer(whole, examples))
    stopped, _ = begun("stopped")
    for report in Trainer(stopped, examples):
        if report.step == 3:
            break
    list(Trainer(load(stopped.path), examples))
    assert outcome(whole.path) == outcome(stopped.path)


def test_the_command_goes_on_with_a_chain_that_was_stopped_and_leaves_what_is_finished(tmp_path):
    out = tmp_path / "s"
    assert student(out / "teacher", "progressive", steps="2").code == 0
    before = hashes(out / "teacher")
    result = student(out, "progressive", steps="1,2")
    assert result.code == 0, result
    same = {name for name, value in hashes(out / "teacher").items() if before.get(name) == value}
    assert {"model.safetensors", "config.json"} <= same
    assert "finished at step 6 already" in result.out
    again = student(out, "progressive", steps="1,2")
    assert again.code == 0, again


def test_one_evaluation_does_what_guidance_did_with_two(tmp_path):
    assert student(tmp_path / "one", "consistency", *SMALL, guidance="2").code == 0
    run = load(tmp_path / "one")
    assert run.recipe.loss.guidance == (2.0, 2.0)
    assert run.recipe.sample.guidance == 1.0
    refused = cli("sample", tmp_path / "one", "--guidance", "3")
    assert refused.code == 1
    assert "part of what this model has learned" in refused.err
    assert student(tmp_path / "many", "mean_flow", guidance="1,4").code == 0
    run = load(tmp_path / "many")
    calls = []
    run.denoiser.net.register_forward_hook(lambda net, given, made: calls.append(len(made)))
    few = run.sample(4, seed=0, sampling=run.settings(guidance=1.5), batch=4)
    assert len(calls) == len(run.grid(run.schedule)) - 1
    weights = run.denoiser.net.conditioning.scale
    torch.nn.init.normal_(weights.leave.weight, 0, 300)
    assert not run.sample(4, seed=0, sampling=run.settings(guidance=3.5)).equal(few)
    assert cli("sample", tmp_path / "many", "--guidance", "5").code == 1
    with pytest.raises(ValueError, match="by itself: leave out the negative text"):
        guided(run.denoiser, run.settings(), Cond())


def test_a_teacher_of_latents_has_a_student_of_latents(tmp_path):
    examples = Digits().load()
    teacher = latent(tmp_path / "teacher", examples, *MLP)
    result = student(tmp_path / "s", "consistency", *SMALL, teacher=teacher.path)
    assert result.code == 0, result
    run = load(tmp_path / "s")
    assert run.encoding == teacher.encoding
    assert run.sample(2).shape == (2, 1, 8, 8)


def test_a_student_is_evaluated_edited_and_told_of(tmp_path):
    out = tmp_path / "s"
    assert student(out, "progressive", steps="2").code == 0
    made = cli("evaluate", out, "-n", "20", "--references", "50", "--metrics", "sliced_wasserstein")
    assert made.code == 0, made
    assert cli("info", out).code == 0
    samples = cli("sample", out, "-n", "2", "--out", tmp_path / "a.png")
    assert samples.code == 0, samples
    edited = cli("edit", out, tmp_path / "a.png", "--strength", "0.5", "--out", tmp_path / "b.png")
    assert edited.code == 1
    assert f"edit with the run that it has learned from, {out / 'teacher'}" in edited.err
    assert "no flow" in cli("likelihood", out).err
    assert "learned steps" in cli("tune", out, "--nfe", "2").err
    assert student(tmp_path / "straight", "reflow").code == 0
    made = cli("edit", tmp_path / "straight", tmp_path / "a.png", "--strength", "0.5", "--out", tmp_path / "c.png")
    assert made.code == 0, made


def test_a_compiled_student_is_told_as_much_as_a_plain_one(tmp_path):
    assert student(tmp_path / "s", "mean_flow", guidance="1,4").code == 0
    f = load(tmp_path / "s").denoiser
    for part in (f.net.conditioning.scale, f.net.conditioning.until):
        torch.nn.init.normal_(part.leave.weight, 0, 100)
    fast = compiled(f, print, backend="eager")
    assert reads_scale(fast)
    x, t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), host(0.7)
    cond = Cond(label=torch.tensor([1, 2, 3]), scale=torch.tensor([1.0, 2.0, 4.0]), until=torch.zeros(3))
    torch.testing.assert_close(fast(x, t, cond).x0, f(x, t, cond).x0)
    assert not torch.allclose(f(x, t, Cond(label=cond.label, scale=cond.scale)).x0, f(x, t, cond).x0)


def test_a_chain_keeps_the_guidance_that_its_first_student_has_learned(tmp_path):
    assert student(tmp_path / "one", "progressive", guidance="2", steps="1,2").code == 0
    assert load(tmp_path / "one").recipe.loss.led == "within"
    refused = cli("sample", tmp_path / "one", "--guidance", "3")
    assert refused.code == 1
    assert "part of what this model has learned" in refused.err
    made = student(tmp_path / "many", "progressive", guidance="1,4", steps="1,2")
    assert made.code == 0, made
    assert cli("sample", tmp_path / "many", "-n", "2", "--guidance", "3", "--out", tmp_path / "a.png").code == 0
    assert "1 to 4" in cli("sample", tmp_path / "many", "--guidance", "5").err


def test_a_teacher_may_be_led_away_from_a_weaker_one(tmp_path):
    weaker = copied(tmp_path / "weaker", "train.steps=4")
    words = ("--weaker", weaker, "--guidance", "2", *SMALL)
    result = student(tmp_path / "s", "consistency", *words, guidance="2")
    assert result.code == 0, result
    run = load(tmp_path / "s" / "teacher")
    assert run.recipe.loss.led == "auto"
    assert run.has("weaker")
    assert load(tmp_path / "s").recipe.loss.led == "within"
    alone = cli("distill", trained(), "--weaker", weaker, "--guidance", "1", "--out", tmp_path / "t")
    assert "scale of guidance" in alone.err


def test_a_student_is_no_teacher_of_another_method(tmp_path):
    assert student(tmp_path / "s", "consistency", *SMALL).code == 0
    for method in ("reflow", "progressive", "mean_flow", "distribution_matching"):
        result = student(tmp_path / "t", method, teacher=tmp_path / "s")
        assert result.code == 1, method
        assert "name the run that it has learned from" in result.err
        assert not (tmp_path / "t").exists()


def test_teachers_that_have_no_students_are_named(tmp_path):
    for words, method, says in (
        (("loss.kind=self_conditioned",), "consistency", "its own estimate"),
        (("parameterization.kind=x0", "loss.notation=x0", "train.steps=2"), "consistency_training", "noise; take"),
        (("improved_ddpm",), "consistency_training", "a variance of the reverse step"),
    ):
        path = trained(*words)
        result = cli("distill", path, "--method", method, "--out", tmp_path / "s")
        assert result.code == 1, words
        assert says in result.err, result.err
    guided = trained("sample.guide.kind=apg", "sample.guidance=3")
    assert "give --guidance" in cli("distill", guided, "--out", tmp_path / "s").err


def test_what_makes_no_sense_is_refused_in_a_sentence(tmp_path):
    teacher = trained()
    for words, says in (
        (("--method", "magic"), "there are:"),
        (("--metric", "magic"), "magic"),
        (("-n", "1"), "at least 2"),
        (("stages.teacher=x",), "leave it out"),
        (("--steps", "x"), "whole numbers"),
        (("--steps", "0,1"), "rising numbers"),
        (("--method", "distribution_matching", "--steps", "1,4"), "one number of steps"),
        (("--method", "consistency_training", "--guidance", "2"), "without a teacher"),
        (("--guidance", "1,2,3"), "one scale or two"),
        (("nonsense",), "not a setting"),
        (("loss.grid.kind=angle",), "loss.grid.kind=uniform"),
        (("--method", "consistency", "loss.guidance=[1, 4]"), "loss.guidance follows from --guidance"),
        (("--method", "scm", "loss.loss.led=auto"), "loss.led follows from --weaker"),
        (("parameterization.kind=magic",), "magic"),
    ):
        result = cli("distill", teacher, "--out", tmp_path / "s", *words)
        assert result.code == 1, words
        assert says in result.err, (words, result.err)
        assert not (tmp_path / "s").exists()
    classifier = trained("kind=classifier")
    assert "nothing to distil" in cli("distill", classifier, "--out", tmp_path / "s").err
    other = copied(tmp_path / "other", "data.kind=digits", "labels=false")
    asked = (
        "train", "digits", *MLP, *SHORT, "loss.kind=progressive", "sample.sampler.kind=ddim", "loss.grid.steps=3",
        f"stages.teacher={other}", "--out", tmp_path / "s",
    )  # fmt: skip
    assert "classes" in cli(*asked).err
    missing = ("train", "digits", *MLP, *SHORT, "loss.kind=consistency", "sample.sampler.kind=consistency")
    assert "stages.teacher=RUN" in cli(*missing, "--out", tmp_path / "s").err


def test_a_teacher_that_was_replaced_under_a_student_is_refused(tmp_path):
    out = tmp_path / "s"
    assert student(out, "consistency", *SMALL).code == 0
    other = load(trained("train.seed=5"))
    (out / "teacher" / "model.safetensors").write_bytes(other.file.read_bytes())
    result = student(out, "consistency", *SMALL, "train.steps=8")
    assert result.code == 1
    assert "teacher" in result.err
    assert load(out).sample(2).shape == (2, 1, 8, 8)


def test_samplers_of_students_are_what_their_methods_say():
    kinds = {"ddim": DDIM, "consistency": Consistency, "jump": Jump, None: object}
    assert {method.sampler for method in METHODS.values()} == set(kinds)
    help_text = cli("distill", "--help").out
    assert all(name in help_text for name in METHODS)


def test_the_validation_loss_of_a_student_is_logged(tmp_path):
    assert student(tmp_path / "s", "consistency", *SMALL, "train.validate_every=3").code == 0
    found = [line["validation_loss"] for line in metrics(tmp_path / "s") if "validation_loss" in line]
    assert len(found) >= 2
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_student_is_trained_for_fewer_evaluations_than_its_teacher(tmp_path, method, scale):
    teacher, chosen = load(copied(tmp_path / "teacher")), METHODS[method]
    teacher.recipe = replace(teacher.recipe, train=replace(teacher.recipe.train, steps=3000))
    scales = (scale, scale) if chosen.lessons else (1.0, 1.0)
    plan, spent = plan_for(teacher, Asked(method, chosen.steps, scales, tmp_path / "s")), 0.0
    while isinstance(plan, Plan):
        loss = plan.recipe.loss
        cost = METHODS["imitation"] if loss.kind == "imitation" else chosen
        inner = loss.loss if loss.kind == "uncertain" else loss
        asked = 2 if scales[0] != 1 and inner.led == "classifier_free" else 1
        lessons = cost.lessons * getattr(loss, "substeps", 1)
        spent += plan.recipe.train.steps * plan.recipe.train.batch * (cost.evaluations + asked * lessons)
        plan = plan.stages.get("teacher")
    assert spent == pytest.approx(SPENT * 3 * 3000 * teacher.recipe.train.batch, rel=0.02)


def test_what_learns_the_mean_of_the_velocity_puts_out_velocity():
    for words, output in (((), "velocity"), (READY, "v"), (("improved_ddpm",), "v"), (("ncsn",), "edm")):
        teacher = load(trained(*words))
        asked = Asked("mean_flow", (1, 2), (1.0, 1.0), teacher.path.parent / "s")
        assert plan_for(teacher, asked).recipe.parameterization.kind == output


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ((), "v"),
        (("parameterization.kind=x0", "loss.notation=x0", "train.steps=2"), "v"),
        (("improved_ddpm",), "v"),
        (("ncsn",), "edm"),
        (("parameterization.kind=edm",), "edm"),
    ],
)
def test_what_a_student_puts_out_is_of_use_to_few_steps_whatever_its_teacher_puts_out(tmp_path, words, output):
    out, teacher = tmp_path / "s", trained(*words)
    result = student(out, "consistency", *SMALL, teacher=teacher)
    assert result.code == 0, result
    assert load(out).recipe.parameterization.kind == output
    assert torch.isfinite(load(out).sample(2).float()).all()
    converted = output != load(teacher).recipe.parameterization.kind
    assert (load(out / "teacher").recipe.loss.kind == "imitation") == converted


def test_guidance_alone_may_become_part_of_a_run_which_any_sampler_samples(tmp_path):
    result = student(tmp_path / "s", "imitation", guidance="1,4", steps="3")
    assert result.code == 0, result
    run = load(tmp_path / "s")
    assert run.sample(2, sampling=run.settings(Heun(), steps=3, guidance=2.5)).shape == (2, 1, 8, 8)
    assert "1 to 4" in cli("sample", tmp_path / "s", "--guidance", "5").err
    made = cli("likelihood", tmp_path / "s", "-n", "2")
    assert made.code == 0, made


def test_a_run_of_guidance_within_is_a_teacher_as_any_other(tmp_path):
    assert student(tmp_path / "one", "imitation", guidance="2", steps="3").code == 0
    result = student(tmp_path / "s", "consistency", *SMALL, teacher=tmp_path / "one")
    assert result.code == 0, result
    assert load(tmp_path / "s").stage("teacher").recipe.loss.kind == "imitation"
    again = student(tmp_path / "t", "consistency", *SMALL, teacher=tmp_path / "one", guidance="3")
    assert again.code == 1
    assert "part of what this model has learned" in again.err
    words = ("loss.kind=progressive", "sample.sampler.kind=ddim", "sample.grid.kind=uniform", "sample.grid.steps=4")
    by_hand = cli(
        "train", *MLP, *SHORT, *words, "digits", f"stages.teacher={tmp_path / 'one'}", "loss.led=within",
        "loss.guidance=[3, 3]", "sample.guidance=1", "--out", tmp_path / "u",
    )  # fmt: skip
    assert by_hand.code == 1
    assert "the guidance that the teacher has learned, [2.0, 2.0]" in by_hand.err


def test_it_says_which_students_are_on_the_way(tmp_path):
    told = student(tmp_path / "s", "progressive", steps="1,2", guidance="2").out
    s = tmp_path / "s"
    assert f"{s / 'teacher' / 'teacher'} by imitation, {s / 'teacher'} by progressive, {s} by progressive" in told


def test_words_for_the_output_are_read_as_those_of_a_recipe():
    teacher = load(trained())
    for word in ("parameterization=velocity", "parameterization.kind=velocity"):
        asked = Asked("consistency", (1, 2), (1.0, 1.0), teacher.path.parent / "s", (parse_override(word),))
        plan = plan_for(teacher, asked)
        assert plan.recipe.parameterization.kind == "velocity"
        assert not isinstance(plan.stages["teacher"], Plan)
