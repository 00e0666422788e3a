"""A stand-in for torchvision, which two of the peers name at the top of their files.

denoising-diffusion-pytorch and smalldiffusion take image transforms for their own data sets from it; neither
their networks nor their training steps do. The plain wheel of torchvision would bring another build of torch
along, so a package of that name is put in its place while they are imported, and taken away after. What it holds
can be made and not be used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class Unused:
    """Stands for any class or function of torchvision."""

    def __init__(self, *given: object, **named: object) -> None:
        """Whatever it is made with."""

    def __call__(self, *given: object) -> None:
        """Refuse to be used.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("torchvision is not installed, and this benchmark uses nothing that needs it")


class StandIn(ModuleType):
    """A module in which every public name is `Unused`."""

    def __getattr__(self, name: str) -> type[Unused]:
        """`Unused` for any name but those that the import system asks for."""
        if name.startswith("__"):
            raise AttributeError(name)
        return Unused


@contextmanager
def without_torchvision() -> Iterator[None]:
    """Inside, `import torchvision` finds the stand-in, unless the real one has been imported."""
    if "torchvision" in sys.modules:
        yield
        return
    made = {name: StandIn(name) for name in ("torchvision", "torchvision.transforms", "torchvision.utils")}
    for name, module in made.items():
        module.__spec__ = ModuleSpec(name, None, is_package=name == "torchvision")
    whole = made["torchvision"]
    whole.__path__ = []
    whole.transforms, whole.utils = made["torchvision.transforms"], made["torchvision.utils"]  # type: ignore[assignment]
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)
