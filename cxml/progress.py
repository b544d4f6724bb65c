"""How long work tells how far it is: a tiny protocol, silent unless somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Anything with ``step``: the command line has a bar and a log form, libraries may bring their own."""

    def step(self, what: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Open one step of work; the block calls ``advance(n)`` as ``n`` of ``total`` units get done."""
        ...  # pragma: no cover

    def say(self, what: str) -> None:
        """Tell one line of news."""
        ...  # pragma: no cover


class Silent:
    """Says nothing; the default everywhere."""

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        """Open a step nobody watches."""
        yield lambda _n: None

    def say(self, what: str) -> None:
        """Keep it to ourselves."""


SILENT = Silent()
