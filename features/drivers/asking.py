"""How the apps of a scenario ask a proxy that listens at a port."""

import http.client
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ANSWER_SECONDS = 30.0


def asked_at(port: int) -> "WSGIApplication":
    """The proxy at this port of 127.0.0.1 as an app for test clients."""

    def ask(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """One request, on a connection of its own: any worker may get it."""
        headers = {
            name.removeprefix("HTTP_").replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_") and name != "HTTP_HOST"
        }
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        try:
            connection.request(environ["REQUEST_METHOD"], environ["RAW_URI"], headers=headers)
            response = connection.getresponse()
            body = response.read()
        except TimeoutError as exc:
            raise AssertionError(f"expected: an answer\n     got: none within {ANSWER_SECONDS:.0f} s") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise AssertionError(f"expected: an answer\n     got: none ({exc})") from exc
        finally:
            connection.close()
        start_response(f"{response.status} {response.reason}", response.getheaders())
        return [body]

    return ask
