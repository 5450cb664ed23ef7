"""What the terminal shows: progress with time left, seven lines, errors that teach."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from equipoise.errors import EquipoiseError

out = Console(highlight=False, soft_wrap=True)
error = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(problem: EquipoiseError, as_json: bool) -> None:
    """Print what went wrong, on which file, why it matters and what mends it."""
    if as_json:
        out.print_json(json.dumps(problem.as_dict()))
        return
    error.print(f"[bold red]{escape(problem.message)}[/]")
    for name, text in (("file", problem.file), ("why it matters", problem.why), ("fix", problem.fix)):
        if text:
            error.print(f"  [dim]{name}:[/] {escape(text)}")


def lines(rows: list[tuple[str, str]]) -> None:
    """Print named lines, the names in a column."""
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        out.print(f"[bold]{name:<{width}}[/]  {escape(text)}")


def as_json(content: Any) -> None:
    """Print JSON."""
    out.print_json(json.dumps(content, default=str))


@contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """Give a function of stage, done, total and seconds left that draws a bar per stage."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=error, disable=quiet, transient=not error.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def told(stage: str, done: int, total: int, seconds: float) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total, left="")
            left = f"about {_time(seconds)} left" if done < total and seconds > 0 else ""
            bars.update(known[stage], completed=done, total=total, left=left)

        yield told


def open_page(path: Path) -> None:
    """Open a page in the browser of somebody who sits in front of it."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if out.is_terminal and screen:
        webbrowser.open(path.resolve().as_uri())


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Return bytes in words."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
