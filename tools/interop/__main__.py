"""`python -m tools.interop`: put five caches in front of the proxy, and see until when each gives an old answer."""

import math
import signal
import sys
from collections.abc import Sequence

import click

from .caches import CACHES, Cache
from .lab import Life, measured

TTL = 5.0


class MissingProgram(click.ClickException):
    exit_code = 2


@click.command()
@click.option(
    "--only", multiple=True, type=click.Choice([cache.name for cache in CACHES]), help="Leave out the others."
)
def main(only: tuple[str, ...]) -> None:
    """See until when caches in front of the proxy give an old answer: never past its instant.

    Ends with 1 if one of them does, or does not reuse answers as docs/clients.md says, and with 2 if one of them is not
    installed.
    """
    caches = [cache for cache in CACHES if not only or cache.name in only]
    if missing := [cache.needs for cache in caches if not cache.is_there]:
        raise MissingProgram(f"not installed: {', '.join(missing)}")
    # If it is told to end, it ends what it has started, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    lives = measured(caches, TTL)
    click.echo(table(lives))
    unlike = [text for cache in caches if (text := unlike_documented(cache, lives))]
    click.echo("\n".join(unlike) or "Each cache reuses answers, or asks each time, as docs/clients.md says.")
    sys.exit(int(bool(unlike) or any(life.is_late for life in lives)))


def unlike_documented(cache: Cache, lives: Sequence[Life]) -> str | None:
    """What the cache does otherwise than docs/clients.md says. One that never reused an answer has proved nothing."""
    own = [life for life in lives if life.cache == cache.name]
    reused = any(life.reused for life in own if life.left is None)
    if cache.reuses:
        return None if reused else f"{cache.name} HAS REUSED NOTHING that it could have kept for its whole life."
    if reused:
        return f"{cache.name} HAS REUSED an answer: it no longer asks each time."
    return (
        None
        if any(life.unchanged for life in own)
        else f"{cache.name} HAS GOT NO 304: it asks for the whole each time."
    )


def table(lives: Sequence[Life]) -> str:
    """For each cache, and how much of an answer's life was left at first: how it used its answers at the longest."""
    lines = [f"{'cache':<16}{'first asked':<22}{'reused':>7}{'for the last time':>21}{'given at all':>15}{'304':>6}"]
    for cache, left in dict.fromkeys((life.cache, life.left) for life in lives):
        same = [life for life in lives if (life.cache, life.left) == (cache, left)]
        first = "at once" if left is None else f"{left} s before the end"
        reused, over = max(life.reused_over for life in same), max(life.over for life in same)
        last = "never" if math.isinf(reused) else f"{reused:+.2f} s"
        verdict = "LATE" if any(life.is_late for life in same) else ""
        times = sum(life.reused for life in same)
        unchanged = sum(life.unchanged for life in same)
        line = f"{cache:<16}{first:<22}{times:>7}{last:>21}{f'{over:+.2f} s':>15}{unchanged:>6}  {verdict}"
        lines.append(line.rstrip())
    lines.append("Times are counted from the instant until which an answer may be given.")
    return "\n".join(lines)


if __name__ == "__main__":
    main(prog_name="python -m tools.interop")
