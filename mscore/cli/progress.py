"""A progress bar for what takes a while outside training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress_bar(what: str, total: int, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing where the output is read by a program.

    Yields:
        A function to call with the amount that was done.
    """
    console = Console(stderr=True)
    with Progress(console=console, disable=hidden or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)
