"""Ways are chosen by what the system says of its processor: its maker, and what it can do."""

import platform

import pytest
import torch

from reverie import devices
from reverie.nets.kernels import choice

RULES = (choice.mkl_is_slow, choice.bf16_is_native, choice._cpu)
ZEN_4 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse2 avx2 avx512f avx512dq avx512bw avx512vl avx512_bf16 vaes
bugs\t\t: sysret_ss_attrs
"""
ZEN_2 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7742 64-Core Processor
flags\t\t: fpu sse2 avx2 fma
"""
SAPPHIRE_RAPIDS = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse2 avx2 avx512f avx512dq avx512_bf16 amx_bf16 amx_tile
"""
SKYLAKE = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz
flags\t\t: fpu sse2 avx2 avx512f avx512dq avx512cd avx512bw
"""
NEHALEM = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU X5550 @ 2.67GHz
flags\t\t: fpu sse2 ssse3 sse4_2
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets what the system and PyTorch say of the processor; what rules remember of another is forgotten."""

    def says(told, capability, name=""):
        path = tmp_path / "cpuinfo"
        if told is not None:
            path.write_text(told)
        monkeypatch.setattr(devices, "CPU", path)
        monkeypatch.setattr(platform, "processor", lambda: name)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        for rule in RULES:
            rule.cache_clear()

    monkeypatch.setattr(choice, "has_onednn", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True, raising=False)
    yield says
    for rule in RULES:
        rule.cache_clear()


@pytest.mark.parametrize(
    ("told", "capability", "slow", "bf16"),
    [
        pytest.param(ZEN_4, "AVX512", True, True, id="AMD with AVX-512"),
        pytest.param(ZEN_4, "AVX2", False, True, id="the same, held to AVX2"),
        pytest.param(ZEN_2, "AVX2", False, False, id="AMD without"),
        pytest.param(SAPPHIRE_RAPIDS, "AVX512", False, True, id="Intel"),
        pytest.param(SKYLAKE, "AVX512", False, False, id="Intel without bfloat16"),
        pytest.param(NEHALEM, "DEFAULT", False, False, id="old"),
    ],
)
def test_a_processor_has_its_rules(told, capability, slow, bf16, machine):
    """MKL is slow on AVX-512 that is not Intel's; bfloat16 is multiplied where there are instructions for it."""
    machine(told, capability)
    assert (choice.mkl_is_slow(), choice.bf16_is_native()) == (slow, bf16)


@pytest.mark.parametrize(
    ("name", "slow"),
    [
        ("", True),
        ("AMD64 Family 25 Model 17 Stepping 1, AuthenticAMD", True),
        ("Intel64 Family 6, GenuineIntel", False),
    ],
)
def test_without_a_file_the_maker_is_what_python_says(name, slow, machine):
    """And of instructions for bfloat16 nothing is known."""
    machine(None, "AVX512", name)
    assert (choice.mkl_is_slow(), choice.bf16_is_native()) == (slow, False)
    machine(None, "AVX2", name)
    assert not choice.mkl_is_slow()


def test_one_processor_stands_for_all(machine):
    machine(f"{ZEN_2}\n{SAPPHIRE_RAPIDS}", "AVX512")
    assert choice.mkl_is_slow()
    assert not choice.bf16_is_native()


def test_an_answer_stays(machine, tmp_path):
    machine(ZEN_4, "AVX512")
    before = choice.mkl_is_slow(), choice.bf16_is_native()
    (tmp_path / "cpuinfo").write_text(NEHALEM)
    assert (choice.mkl_is_slow(), choice.bf16_is_native()) == before == (True, True)


@pytest.mark.parametrize("missing", ["onednn", "mkl", "bf16"])
def test_nothing_is_wanted_of_a_build_that_has_it_not(missing, machine, monkeypatch):
    machine(ZEN_4, "AVX512")
    module, name = {
        "onednn": (choice, "has_onednn"),
        "mkl": (torch.backends.mkl, "is_available"),
        "bf16": (torch.ops.mkldnn, "_is_mkldnn_bf16_supported"),
    }[missing]
    monkeypatch.setattr(module, name, lambda: False)
    assert choice.mkl_is_slow() == (missing == "bf16")
    assert choice.bf16_is_native() == (missing == "mkl")
