"""What a lack of memory looks like, and how much there is."""

import pytest
import torch

from reverie import memory


def test_what_torch_says_when_it_cannot_allocate():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.exhausted(caught.value)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, is_one):
    assert memory.exhausted(error) is is_one


def test_the_memory_of_this_machine():
    free = memory.available("cpu")
    assert free is None or 2**20 < free < 2**50
    assert memory.available("meta") is None
    assert memory.peak("cpu", lambda: 1 / 0) is None  # nobody counts it, so the call is spared


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory._group(tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._group(tmp_path) is None
    monkeypatch.setattr(memory, "_group", lambda: 600_000)
    assert memory.available("cpu") == 600_000


@pytest.mark.parametrize(
    ("names", "stat"),
    [
        (("memory.max", "memory.current", "memory.stat"), "anon 100000\ninactive_file 250000\n"),
        (
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
            "inactive_file 1\ntotal_inactive_file 250000\n",
        ),
    ],
)
def test_files_that_the_system_can_drop_count_as_free(tmp_path, names, stat):
    """Reading a data set fills a container up to its limit, and takes no memory from anybody."""
    (tmp_path / "memory").mkdir()
    for name, text in zip(names, ("1000000\n", "900000\n", stat), strict=True):
        (tmp_path / name).write_text(text)
    assert memory._group(tmp_path) == 350_000
