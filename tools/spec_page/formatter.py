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

from .render import render
from .specification import specification


def _now() -> datetime:
    """Now, or the time of the commit from which `scripts/release` builds: then two pages of it are the same."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)


class PageFormatter(Formatter):  # type: ignore[misc]  # behave has no types
    """Writes the page into the outfile when all features have been run, whatever came of them."""

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
        self._all = _AllFeatures(config)
        config.reporters.append(self._all)

    def close(self) -> None:
        defaults = Settings(api_token=SecretStr("none"))
        self.open().write(render(specification(self._all.features), defaults, self._began))
        self.close_stream()


class _AllFeatures(Reporter):  # type: ignore[misc]  # behave has no types
    """Formatters are told of what is run; reporters of every feature, that of a run which was broken off too."""

    def __init__(self, config: Configuration) -> None:
        super().__init__(config)
        self.features: list[Feature] = []

    def feature(self, feature: Feature) -> None:
        self.features.append(feature)
