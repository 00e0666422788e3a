"""The names that samplers go by elsewhere."""

import pytest

from reverie.config import aliases, from_data, registered
from reverie.samplers import (
    DDIM,
    DEIS,
    LMS,
    PLMS,
    PNDM,
    Adaptive,
    Ancestral,
    Consistency,
    Corrected,
    DPMSolverPP,
    DPMSolverPP2S,
    DPMSolverPPSDE,
    Heun,
    Sampler,
    SASolver,
    UniPC,
)

ELSEWHERE = {
    DDIM(): ("ddim", "euler", "k_euler"),
    DDIM(1.0): ("euler_a", "Euler a", "euler_ancestral", "k_euler_a", "k_euler_ancestral"),
    Ancestral(): ("ddpm",),
    Heun(): ("heun", "k_heun", "edm"),
    LMS(4, corrected=False): ("k_lms",),
    DPMSolverPP(): ("dpmpp_2m", "k_dpmpp_2m", "dpm++_2m", "DPM++ 2M", "dpmsolver++", "DPM-Solver++"),
    DPMSolverPP(3): ("dpmpp_3m",),
    DPMSolverPPSDE(): ("dpmpp_2m_sde", "k_dpmpp_2m_sde"),
    DPMSolverPPSDE(3): ("dpmpp_3m_sde", "k_dpmpp_3m_sde"),
    DPMSolverPP2S(): ("dpmpp_2s", "k_dpmpp_2s"),
    DPMSolverPP2S(1.0): ("dpmpp_2s_a", "dpmpp_2s_ancestral", "k_dpmpp_2s_a", "k_dpmpp_2s_ancestral"),
    UniPC(): ("unipc", "uni_pc", "uni_pc_bh2"),
    UniPC(variant="bh1"): ("uni_pc_bh1",),
    DEIS(): ("deis",),
    PLMS(): ("plms",),
    PNDM(): ("pndm",),
    SASolver(): ("sa_solver", "SASolver"),
    Consistency(): ("lcm",),
    Corrected(): ("pc", "predictor_corrector"),
    Adaptive(): ("rk45", "dopri5"),
    Adaptive(3): ("rk23",),
}


@pytest.mark.parametrize(("name", "sampler"), [(n, s) for s, names in ELSEWHERE.items() for n in names])
def test_a_name_from_elsewhere_is_understood(name, sampler):
    assert from_data(Sampler, name, "sampler") == sampler
    assert from_data(Sampler, {"kind": name}, "sampler") == sampler


def test_no_two_samplers_share_a_name():
    names = [*registered(Sampler), *aliases(Sampler)]
    plain = [name.lower().replace("_", "").replace("-", "") for name in names]
    assert len(set(plain)) == len(plain)


def test_every_other_name_makes_a_sampler():
    for name, (kind, settings) in aliases(Sampler).items():
        made = from_data(Sampler, name, "sampler")
        assert made.kind == kind
        assert all(getattr(made, key) == value for key, value in settings.items())
