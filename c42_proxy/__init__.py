"""One Calendar42 event with its subscribers in one request, cached for 4.2 minutes."""

from .app import create_app
from .version import __version__

__all__ = ["__version__", "create_app"]
