"""Memory of freed tensors stays with the process where that is asked for, and the environment has the last word."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = """
import json, sys
from pathlib import Path

import torch

from reverie.devices import keep_freed_memory


def resident():
    told = Path("/proc/self/status").read_text().split()
    return int(told[told.index("VmRSS:") + 1]) / 1024


kept, before = "keep" in sys.argv and keep_freed_memory(), resident()
tensors = [torch.ones(n, 2**18) for n in (1, 8, 31, 33, 100)]
held = resident() - before
del tensors
print(json.dumps([kept, held, resident() - before]))
"""
MB = 173
"""Of all tensors of the script together; 31 and 33 lie beside the largest threshold that glibc has."""

linux_with_glibc = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="another C library"
)


def freed(*arguments, **environment):
    """Whether memory is kept, and MB held before and after tensors are freed, in a process of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, env={**inherited, **environment},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    kept, held, after = json.loads(done.stdout)
    assert held > 0.95 * MB
    return kept, after


@linux_with_glibc
def test_freed_memory_stays():
    kept, after = freed("keep")
    assert kept
    assert after > 0.95 * MB


@linux_with_glibc
def test_the_system_gets_it_back_otherwise():
    assert freed()[1] < 0.3 * MB


@linux_with_glibc
@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072")]
)
def test_the_environment_has_the_last_word(name, value):
    kept, after = freed("keep", **{name: value})
    assert not kept
    assert after < 0.3 * MB
