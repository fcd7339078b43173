"""The command line, run in this process."""

import os

from click.testing import CliRunner, Result

from c42_proxy.__main__ import main


def c42_proxy(*arguments: str, **variables: str) -> Result:
    """Run it with no other settings than `variables`."""
    absent = {
        name: None for name in os.environ if name.startswith(("C42_", "OTEL_")) or name.upper().endswith("_PROXY")
    }
    return CliRunner().invoke(main, arguments, env={**absent, **variables}, prog_name="c42-proxy")
