import importlib
import json
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from helpers import default

import reverie
from reverie import config
from reverie.config import (
    Part,
    differences,
    from_data,
    lookup,
    merged,
    parse_override,
    read_file,
    registered,
    settings,
    to_data,
    type_name,
)
from reverie.grids import Grid, Karras, Knots, Uniform
from reverie.losses import Denoising, LogNormalTimes, Loss, MinSNR
from reverie.parameterizations import EDM, Parameterization
from reverie.samplers import DDIM, Heun, Sampler
from reverie.schedules import VE, Betas, Cosine, Flow, GivenBetas, LinearBetas, Schedule, Table
from reverie.spaces import Pixels, Space, Standardized


def families() -> dict[str, type[Part]]:
    """Every family of the package, found by importing all of it but the command line."""
    for module in pkgutil.walk_packages(reverie.__path__, "reverie."):
        if not module.name.startswith(("reverie.cli", "reverie.__main__")):
            importlib.import_module(module.name)
    found, open_ = {}, [Part]
    while open_:
        cls = open_.pop()
        open_ += cls.__subclasses__()
        if "family" in cls.__dict__ and cls.__module__.startswith("reverie.") and cls is not Part:
            found[cls.family] = cls
    return found


def parts() -> list:
    return [
        pytest.param(family, cls, id=f"{family.family}-{kind}")
        for family in families().values()
        for kind, cls in registered(family).items()
    ]


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Outer:
    """A stand-in for a recipe."""

    steps: int
    schedule: Schedule = field(default_factory=Cosine)
    grid: Grid | None = None
    inner: Inner = field(default_factory=Inner)
    decay: Literal["none", "linear"] = "none"
    share: float | None = None
    on: bool = False


@pytest.mark.parametrize(("family", "cls"), parts())
def test_every_part_comes_back_from_its_plain_data(family, cls):
    try:
        part = default(cls)
    except TypeError:
        pytest.skip("has a field without a default and no example in helpers.EXAMPLES")
    plain = json.loads(json.dumps(to_data(part)))
    assert plain["kind"] == cls.kind
    assert from_data(family, plain, "x") == part
    assert (
        from_data(
            family, {"kind": cls.kind.upper().replace("_", "-"), **{k: v for k, v in plain.items() if k != "kind"}}, "x"
        )
        == part
    )
    with pytest.raises(ValueError, match=rf"unknown setting x\.no_such; {cls.kind} has: "):
        from_data(family, {**plain, "no_such": 1}, "x")


SETTINGS = [
    (Schedule, VE(0.01, 50.0, 0.1)),
    (Schedule, Table(LinearBetas(50, 0.001, 0.3))),
    (Schedule, Table([0.1, 0.2])),
    (Betas, GivenBetas((0.1, 1.0))),
    (Grid, Karras(9, 0.1, 3.0, 2.0)),
    (Grid, Knots(50, 2.5, None)),
    (Grid, Knots(50, 2, 7)),
    (Sampler, Heun(0.1, 0.2, 3.0, 1.003)),
    (Loss, Denoising("v", LogNormalTimes(0.0, 1.0), MinSNR(2.0))),
    (Parameterization, EDM(1.5)),
    (Space, Standardized((0.5, 1.0), (2.0, 3.0))),
]


@pytest.mark.parametrize(("family", "part"), SETTINGS)
def test_settings_come_back_too(family, part):
    assert from_data(family, json.loads(json.dumps(to_data(part))), "x") == part


def test_a_whole_configuration_comes_back():
    outer = Outer(3, VE(), Karras(4), Inner(0.5, ("x", "y")), "linear", 0.25, True)
    assert from_data(Outer, json.loads(json.dumps(to_data(outer)))) == outer
    assert from_data(Outer, {"steps": 3}) == Outer(3)
    assert from_data(Outer, {"steps": 3, "grid": None, "share": None}) == Outer(3)
    assert from_data(Outer, {"steps": 3, "schedule": "flow"}) == Outer(3, Flow())
    assert from_data(Outer, {"steps": 3, "share": 1}).share == 1


WRONG = [
    ({"steps": 3, "schdule": {}}, r"unknown setting schdule; a config has: steps, .*did you mean 'schedule'"),
    (
        {"steps": 3, "inner": {"rat": 1.0}},
        r"unknown setting inner\.rat; inner has: rate, names \(did you mean 'rate'\?\)",
    ),
    ({"steps": 3, "schedule": {"kind": "ve", "hihg": 2.0}}, r"unknown setting schedule\.hihg; ve has: .*'high'"),
    (
        {"steps": 3, "schedule": {"kind": "cosin"}},
        r"schedule\.kind: unknown schedule 'cosin'; known: .*did you mean 'cosine'",
    ),
    ({"steps": 3, "schedule": {"low": 1.0}}, r"unknown setting schedule\.low; cosine has: no settings"),
    ({"steps": 3, "schedule": {"kind": 3}}, r"schedule needs a kind"),
    ({"steps": 3, "schedule": 7}, r"schedule needs a kind.*given 7"),
    ({"steps": 3, "schedule": {"kind": "torch.nn.Linear"}}, r"schedule\.kind: unknown schedule 'torch\.nn\.Linear'"),
    ({"steps": 3, "schedule": {"kind": "reverie.schedules.VE"}}, r"schedule\.kind: unknown schedule"),
    ({"steps": 3, "schedule": "os.system"}, r"schedule\.kind: unknown schedule 'os\.system'"),
    ({"steps": 3, "schedule": {"kind": "uniform"}}, r"schedule\.kind: unknown schedule 'uniform'"),
    ({"steps": "3"}, r"steps must be int; given '3'"),
    ({"steps": 3.5}, r"steps must be int; given 3\.5"),
    ({"steps": True}, r"steps must be int; given True"),
    ({"steps": None}, r"steps must be int; given None"),
    ({"steps": 3, "on": 1}, r"on must be bool; given 1"),
    ({"steps": 3, "inner": {"rate": "fast"}}, r"inner\.rate must be float; given 'fast'"),
    ({"steps": 3, "inner": {"names": [1]}}, r"inner\.names must be list of str"),
    ({"steps": 3, "inner": 4}, r"inner must be a table of settings; given 4"),
    ({"steps": 3, "decay": "cosine"}, r"decay must be 'none' or 'linear'; given 'cosine'"),
    ({"steps": 3, "share": "x"}, r"share must be float or none; given 'x'"),
    ({}, r"setting steps is missing"),
    ({"steps": 3, "schedule": {"kind": "ve", "low": -1.0}}, r"schedule: VE needs 0 < low < high"),
    (
        {"steps": 3, "schedule": {"kind": "table", "betas": {"kind": "given"}}},
        r"setting schedule\.betas\.betas is missing",
    ),
    ({"steps": 3, "grid": {"kind": "karras", "steps": [1]}}, r"grid\.steps must be int"),
]


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_what_does_not_fit_is_refused_by_its_key(data, message):
    with pytest.raises(ValueError, match=message):
        from_data(Outer, data)


def test_no_module_is_imported_by_a_name_in_the_data(monkeypatch):
    imported, really = [], config.importlib.import_module

    def recorded(name):
        imported.append(name)
        return really(name)

    monkeypatch.setattr(config.importlib, "import_module", recorded)
    registered(Schedule)
    own = set(imported)
    assert "reverie.schedules" in own
    for kind in ("antigravity", "this", "torch.nn.Linear", "reverie.schedules:VE"):
        with pytest.raises(ValueError, match="unknown schedule"):
            from_data(Schedule, {"kind": kind}, "schedule")
    assert set(imported) == own  # the files of the family's own package, whatever was asked for


def test_lookup_ignores_case_spaces_hyphens_and_underscores_only():
    for kind in ("linear_vp", "LinearVP", "linear-vp", "Linear VP", "LINEARVP"):
        assert lookup(Schedule, kind).kind == "linear_vp"
    with pytest.raises(ValueError, match=r"unknown sampler 'dim'; known: .*did you mean 'ddim'"):
        lookup(Sampler, "dim")
    assert list(registered(Sampler)) == sorted(registered(Sampler))
    assert registered(Sampler)["ddim"] is DDIM
    assert "karras" not in registered(Sampler)


def test_a_kind_belongs_to_one_part():
    with pytest.raises(ValueError, match=r"sampler 'ddim' is reverie\.samplers\.ddim\.DDIM already; give .* another"):

        class Other(Sampler, kind="ddim"):
            pass

    assert registered(Sampler)["ddim"] is DDIM


def test_a_part_defined_elsewhere_joins_its_family():
    class Here(Space, kind="here_for_a_test"):
        pass

    try:
        assert registered(Space)["here_for_a_test"] is Here
        assert "here_for_a_test" not in registered(Schedule)
    finally:
        del Space._kinds["here_for_a_test"]


def test_what_has_no_plain_form_is_refused():
    for value in (object(), {"a": {1, 2}}, Path("x"), Pixels):
        with pytest.raises(TypeError, match="cannot be stored in a config"):
            to_data(value)
    assert to_data({"a": (1, None, [Flow()])}) == {"a": [1, None, [{"kind": "flow"}]]}


# -------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1e-4", 1e-4),
        ("a = true", True),
        ("a=dit", "dit"),
        ("a='dit'", "dit"),
        ("a=two words", "two words"),
        ("a=none", None),
        ("a=NULL", None),
        ("a=[1, 2]", [1, 2]),
        ("a={kind = 've', low = 0.1}", {"kind": "ve", "low": 0.1}),
        ("a=x=y", "x=y"),
        ("a=", ""),
    ],
)
def test_overrides_are_toml_or_words(text, value):
    assert parse_override(text) == {"a": value}


def test_overrides_nest():
    assert parse_override("a.b.c=1") == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", ".a=1", ""])
def test_what_is_no_override_is_refused(text):
    with pytest.raises(ValueError, match="is not a setting; write key=value"):
        parse_override(text)


def test_merged_lays_tables_on_tables():
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert merged(base, {"a": {"y": {"w": 4}}, "c": 5}) == {"a": {"x": 1, "y": {"z": 2, "w": 4}}, "b": 3, "c": 5}
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert merged({"a": {"x": 1}}, {"a": 2}) == {"a": 2}
    assert merged({"a": 2}, {"a": {"x": 1}}) == {"a": {"x": 1}}


def test_another_kind_replaces_the_settings_of_the_one_below():
    base = {"schedule": {"kind": "ve", "low": 0.1, "high": 3.0}}
    assert merged(base, {"schedule": {"kind": "flow"}}) == {"schedule": {"kind": "flow"}}
    assert merged(base, {"schedule": {"kind": "VE", "low": 0.2}}) == {
        "schedule": {"kind": "VE", "low": 0.2, "high": 3.0}
    }
    assert merged(base, {"schedule": {"low": 0.2}})["schedule"] == {"kind": "ve", "low": 0.2, "high": 3.0}
    assert merged({"schedule": "ve"}, {"schedule": {"low": 0.2}}) == {"schedule": {"kind": "ve", "low": 0.2}}
    assert merged({"schedule": "ve"}, {"schedule": {"kind": "karras"}}) == {"schedule": {"kind": "karras"}}
    assert merged(base, {"schedule": "flow"}) == {"schedule": "flow"}
    assert merged({"net": {"width": 32}}, {"net": {"kind": "dit"}}) == {"net": {"width": 32, "kind": "dit"}}


# ------------------------------------------------------------------------ files, descriptions


def test_files_are_read_and_faults_are_named(tmp_path):
    toml, plain = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text("steps = 3\n[schedule]\nkind = 've'\n")
    plain.write_text('{"steps": 3, "schedule": {"kind": "ve"}}')
    assert read_file(toml) == read_file(plain) == {"steps": 3, "schedule": {"kind": "ve"}}
    toml.write_text("steps = \n")
    with pytest.raises(ValueError, match=r"a\.toml is not well-formed toml: .*line 1"):
        read_file(toml)
    plain.write_text("{")
    with pytest.raises(ValueError, match=r"a\.json is not well-formed json: .*line 1"):
        read_file(plain)
    plain.write_text("[1]")
    with pytest.raises(ValueError, match="must hold a table of settings, not list"):
        read_file(plain)


def test_settings_are_listed_by_their_dotted_keys():
    listed = {s.key: (s.type, s.default) for s in settings(Outer)}
    assert listed["steps"] == ("int", "required")
    assert listed["inner.rate"] == ("float", 0.1)
    assert listed["inner.names"] == ("list of str", ["a"])
    assert listed["decay"] == ("'none' or 'linear'", "none")
    assert listed["share"] == ("float or none", None)
    assert listed["schedule.kind"] == (" | ".join(registered(Schedule)), "cosine")
    assert listed["grid.kind"][1] is None


def test_type_names_are_a_readers():
    assert type_name(int) == "int"
    assert type_name(type(None)) == "none"
    assert type_name(tuple[float, float]) == "list of float"
    assert type_name(tuple[int, str]) == "list of int, str"
    assert type_name(int | None) == "int or none"


def test_differences_are_named_by_key():
    a, b = to_data(Outer(3)), to_data(Outer(4, Flow(), inner=Inner(0.2)))
    assert list(differences(a, a)) == []
    assert list(differences(a, b)) == [("inner.rate", 0.1, 0.2), ("schedule.kind", "cosine", "flow"), ("steps", 3, 4)]
    assert list(differences({"a": 1}, {})) == [("a", 1, None)]
    assert to_data(Uniform()) == {"kind": "uniform", "steps": 50, "start": 1.0}
