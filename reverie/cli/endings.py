"""What the help of a verb ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from typer.core import TyperCommand


def ending_with(paragraphs: Callable[[], Iterable[str]]) -> type[TyperCommand]:
    """A command whose help ends with these paragraphs, which are looked up only for it."""

    class Command(TyperCommand):
        @property
        def epilog(self) -> str | None:
            return "\n\n".join(paragraphs())

        @epilog.setter
        def epilog(self, value: str | None) -> None:
            assert value is None

    return Command
