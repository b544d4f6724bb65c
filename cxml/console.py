"""How the command line speaks: a bar on a terminal, plain lines elsewhere, one style of error."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

from cxml.progress import Advance

#: Seconds between two lines about the same step, where there is no terminal to draw on.
LOG_EVERY_S = 10.0
LOG_WIDTH = 160


class Voice:
    """Tells people and machines what goes on; a `cxml.progress.Progress`.

    Progress and news go to standard error, results to standard output, so that ``--json`` can be piped.

    Parameters
    ----------
    quiet : bool
        Only results and errors.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.out = Console(highlight=False, soft_wrap=True)
        if not self.out.is_terminal:  # a log or a pipe has no width of its own
            self.out = Console(highlight=False, soft_wrap=True, width=LOG_WIDTH)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Advance]:
        """Show one step: as a bar with the time left on a terminal, as lines in a log."""
        if self.quiet:
            yield lambda _n: None
        elif self.err.is_terminal:
            columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
            columns += [TimeElapsedColumn(), TimeRemainingColumn()]
            with RichProgress(*columns, console=self.err, transient=True) as bar:
                task = bar.add_task(what, total=total)
                yield lambda n: bar.advance(task, n)
        else:
            yield _LogLines(self, what, total).advance

    def say(self, what: str) -> None:
        """Tell one line of news."""
        if not self.quiet:
            self.err.print(what, markup=False)

    def result(self, line: str) -> None:
        """Print one line of the result."""
        self.out.print(line, markup=False)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table of results; numbers stand to the right."""
        table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
        for i, name in enumerate(head):
            numeric = all(isinstance(row[i], int | float) or str(row[i])[:1].isdigit() for row in rows)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=i == 0)
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.out.print(table)

    def warn(self, message: str) -> None:
        """Print a warning, on standard error and however quiet."""
        self.err.print("warning: ", end="", style="bold yellow")
        self.err.print(message, markup=False)

    def error(self, message: str) -> None:
        """Print an error, in one style."""
        self.err.print("error: ", end="", style="bold red")
        self.err.print(message, markup=False)


class _LogLines:
    """One line when a step begins, then at most one every ten seconds, with the share done and the time left."""

    def __init__(self, voice: Voice, what: str, total: int | None) -> None:
        self.voice, self.what, self.total, self.done = voice, what, total, 0
        self.began = self.told = time.monotonic()
        voice.say(f"{what}{f' ({total:,})' if total else ''} ...")

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.told < LOG_EVERY_S or not self.total:
            return
        self.told = now
        left = (now - self.began) * (self.total - self.done) / max(self.done, 1)
        self.voice.say(
            f"{self.what}: {self.done:,} of {self.total:,} ({self.done / self.total:.0%}), {left:.0f} s left"
        )
