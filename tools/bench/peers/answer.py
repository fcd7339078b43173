"""The answer of the proxy that the bare peers repeat."""

import json
import os
from pathlib import Path

_told = json.loads(Path(os.environ["BENCH_ANSWER"]).read_text())
HEADERS: list[tuple[str, str]] = [(name, value) for name, value in _told["headers"]]
BODY: bytes = _told["body"].encode()
