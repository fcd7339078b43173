"""behave's side: it collects what was run, and writes the page at the end."""

import os
from collections.abc import Callable
from datetime import UTC, datetime

from behave.configuration import Configuration
from behave.formatter.base import Formatter, StreamOpener
from behave.model import Feature
from behave.reporter.base import Reporter
from pydantic import SecretStr

from c42_proxy.settings import Settings

from .changes import changes
from .mentions import problems, settings
from .render import render
from .since import earlier
from .specification import specification
from .tried import tried


def _now() -> datetime:
    """Now, or the time of the commit from which `scripts/release` builds: then two pages of it are the same."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)


class PageFormatter(Formatter):  # type: ignore[misc]  # behave has no types
    """Writes the page into the outfile when all features have been run, whatever came of them.

    `-D since=COMMIT`: with what has changed since that commit. `-D reference=FILE`: with a link to the reference.
    """

    name = "page"
    description = "The specification as one HTML page"

    def __init__(
        self, stream_opener: StreamOpener, config: Configuration, *, clock: Callable[[], datetime] = _now
    ) -> None:
        super().__init__(stream_opener, config)
        # behave takes the terminal's encoding, and the page says that it is UTF-8.
        stream_opener.encoding = "utf-8"
        # Here, because the features stop the clock.
        self._began = clock()
        self._options = config.userdata
        # Before the features begin: they stop the clock, and make files of their own.
        self._tried = tried(self._options)
        self._earlier = earlier(self._options["since"]) if self._options.get("since") else None
        self._all = _AllFeatures(config)
        config.reporters.append(self._all)

    def close(self) -> None:
        told = specification(self._all.features)
        page = render(
            told,
            Settings(api_token=SecretStr("none")),
            self._began,
            tried=self._tried,
            changes=changes(told, self._earlier) if self._earlier else None,
            mentions=[("Problems", problems(told)), ("Settings", settings(told))],
            reference=self._options.get("reference"),
        )
        self.open().write(page)
        self.close_stream()


class _AllFeatures(Reporter):  # type: ignore[misc]  # behave has no types
    """Formatters are told of what is run; reporters of every feature, that of a run which was broken off too."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        self.features: list[Feature] = []

    def feature(self, feature: Feature) -> None:
        self.features.append(feature)
