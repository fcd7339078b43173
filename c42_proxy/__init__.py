"""One Calendar42 event with its subscribers in one request, cached for 4.2 minutes."""

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .app import create_app

__all__ = ["__version__", "create_app"]


def __getattr__(name: str) -> Any:
    """`create_app`, where it is asked for: a wrong start is reported before Flask and requests are loaded (PEP 562)."""
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .app import create_app  # noqa: PLC0415  # see above

    return create_app
