"""The page as one HTML text: style and script inside, nothing to fetch."""

import re
from base64 import b64encode
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from c42_proxy.settings import Settings
from c42_proxy.version import __version__
from features.support.expectations import lasting

from .changes import Changes
from .mentions import Mention
from .specification import Specification
from .tried import Tried
from .verdict import Verdict, of_step

HERE = Path(__file__).parent


def render(
    specification: Specification,
    settings: Settings,
    began: datetime,
    *,
    tried: Tried,
    changes: Changes | None = None,
    mentions: Sequence[tuple[str, list[Mention]]] = (),
    reference: str | None = None,
) -> str:
    """`began` is when the run began, in UTC; the life of an answer is told as `settings` have it.

    `mentions` come below their headings. `reference` is the address of the reference, if there is one beside the page.
    """
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["marked"] = marked
    templates.filters["label"] = label
    templates.filters["verdict"] = of_step
    style, script = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return templates.get_template("page.html").render(
        specification=specification,
        expired=lasting(timedelta(seconds=settings.cache_ttl)),
        gone=lasting(timedelta(seconds=settings.cache_ttl + settings.stale_if_error))
        if settings.stale_if_error
        else "",
        version=__version__,
        began=began,
        verdicts=Verdict,
        tried=tried,
        changes=changes,
        mentions=[(heading, found) for heading, found in mentions if found],
        reference=reference,
        # Our own two files: nothing in them comes from a feature.
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {_source(style)}; script-src {_source(script)}",
    )


def _source(text: str) -> str:
    """How a content security policy names an inline style or script."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def marked(text: str, parameters: Set[str]) -> Markup:
    """`text` with each `<parameter>` of an outline as a variable."""
    if not parameters:
        return escape(text)
    # As plain text: what is put together of a Markup's parts is escaped again.
    safe = str(escape(text))
    names = "|".join(re.escape(str(escape(name))) for name in sorted(parameters))
    return Markup(re.sub(f"&lt;({names})&gt;", r"<var>\1</var>", safe))


def label(verdict: str) -> str:
    """The verdict as a class and in the page's address."""
    return verdict.replace(" ", "-")
