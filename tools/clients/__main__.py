"""`python -m tools.clients`: `openapi.yaml` as a page to read, build/site/api.html, with Scalar's API reference.

The page is whole: it has the description and Scalar's script in it, and its policy lets it ask nobody for more.
"""

import json
from pathlib import Path

import click

from harness.openapi import DOCUMENT
from harness.processes import ROOT

from . import FOLDER

PAGE = ROOT / "build" / "site" / "api.html"

SETTINGS = {
    # The page is to be read. Requests from a page to the proxy would need `C42_ALLOW_ORIGINS`.
    "hideTestRequestButton": True,
    "hideClientButton": True,
    "agent": {"disabled": True},
    "mcp": {"disabled": True},
    "showDeveloperTools": "never",
    "telemetry": False,
    "withDefaultFonts": False,
    # All that is explained can be found by the browser's search.
    "expandAllResponses": True,
    "expandAllModelSections": True,
    "orderSchemaPropertiesBy": "preserve",
    "orderRequiredPropertiesFirst": False,
    # Scalar's own grey is too pale to read (WCAG, 1.4.3).
    "customCss": ".light-mode{--scalar-color-3:#666}.dark-mode{--scalar-color-3:#aaa}",
}

HTML = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; font-src data:; img-src data:">
<title>c42_proxy: the reference</title>
<body>
<div id="reference"></div>
<script>{script}</script>
<script>Scalar.createApiReference("#reference", {settings})</script>
</body>
</html>
"""


def page(script: str) -> str:
    settings = json.dumps({"content": DOCUMENT, **SETTINGS})
    # Inside a script, `</` would end it.
    return HTML.replace("{settings}", settings.replace("</", r"<\/")).replace(
        "{script}", script.replace("</script", r"<\/script")
    )


def write(path: Path = PAGE) -> None:
    (script,) = FOLDER.glob("venv/lib/python*/site-packages/flask_openapi_scalar/**/scalar.standalone.js")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(script.read_text()))


if __name__ == "__main__":
    write()
    click.echo(f"The reference: {PAGE.as_uri()}")
