"""The specification as one HTML page for the product owner, written from a run of behave.

python -m behave --format tools.spec_page:PageFormatter --outfile build/specification.html
"""

from .formatter import PageFormatter
from .progress import FailuresFormatter

__all__ = ["FailuresFormatter", "PageFormatter"]
