"""What a setting may be. Each function returns its value as it is used, and raises a ValueError if it is wrong."""

import re
import ssl
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pydantic import AnyHttpUrl, SecretStr, TypeAdapter

from .address import Address
from .redis_url import RedisUrl

MEMORY_URL = "memory://"
SQLITE = "sqlite:///"
MIN_SECRET = 4
"""To mask shorter words would make the log unreadable."""


def whole_name(file: str) -> str:
    """For use in another folder: gunicorn may change it."""
    return str(Path(file).absolute())


class WrongFile(ValueError):
    """Why a file cannot be used, in a few words for the operator."""


def api_url(value: str) -> str:
    url = urlsplit(str(TypeAdapter(AnyHttpUrl).validate_python(value)))
    # requests refuses a host that begins with a dot or a star.
    if url.query or url.fragment or "@" in url.netloc or url.netloc.startswith((".", "*")):
        raise ValueError
    return url.geturl().rstrip("/") + "/"


def token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"[\x21-\x7e]{{{MIN_SECRET},}}", value.get_secret_value()):
        raise ValueError
    return value


_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")


def origins(value: str) -> str:
    """Only what browsers send: another spelling would never be found in the list."""
    for origin in value.split(",") if value != "*" else ():
        parts = _ORIGIN.fullmatch(origin.strip(" "))
        if parts is None or int(parts[2] or 0) > 65535 or (parts[1], parts[2]) in {("http", "80"), ("https", "443")}:
            raise ValueError
    return value


def bind(value: str) -> str:
    return str(Address.parsed(value))


def ops_bind(value: str) -> str:
    address = Address.parsed(value)
    if address.port == 0:
        raise ValueError
    return str(address)


def cache_url(value: str) -> str:
    if RedisUrl.is_meant(value):
        RedisUrl.parsed(value)
        address, mark, query = value.partition("?")
        return address + mark + re.sub("(ssl_[a-z_]+=)([^&]+)", _with_whole_name, query)
    # `:memory:` would become a file of that name, and nothing expands `~`.
    is_file = re.fullmatch(r"sqlite:///(?!~).*[^/]", value) and not value.endswith(":memory:")
    if not (value == MEMORY_URL or is_file):
        raise ValueError
    return value if value == MEMORY_URL else f"{SQLITE}{whole_name(value.removeprefix(SQLITE))}"


def _with_whole_name(parameter: re.Match[str]) -> str:
    return parameter[1] + quote(whole_name(unquote(parameter[2])))


_PROXY = re.compile(r"http://(?:(?:[!-$&-?A-~]|%[0-9A-Fa-f]{2})*@)?[!-$&-?A-~]+:[0-9]{1,5}/?")
"""In visible ASCII, with `%` and `@` of user and password in percent-encoding, and with a port: else it would be 80."""


def proxy_url(value: str) -> str:
    url = urlsplit(str(TypeAdapter(AnyHttpUrl).validate_python(value)))
    if url.path != "/" or not _PROXY.fullmatch(value) or re.search(r"[?#\\]", value):
        raise ValueError
    # They are sent in Latin-1 (RFC 7617); a character of another script raises a ValueError.
    unquote(f"{url.username}{url.password}").encode("latin-1")
    return value.rstrip("/")


def ca_file(value: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except ssl.SSLError as exc:
        # OpenSSL says the same of an empty file, of a key, and of a certificate that is not in PEM.
        is_none = exc.reason == "NO_CERTIFICATE_OR_CRL_FOUND"
        raise WrongFile("it holds no certificate in PEM" if is_none else "a certificate in it is broken") from exc
    except OSError as exc:
        raise WrongFile(exc.strerror) from exc
    return whole_name(value)


def masked(url: str) -> str:
    """A URL without users and passwords."""
    return re.sub(r"(sentinel_(?:username|password)=)[^&]*", r"\1***", re.sub(r"(?<=://)[^/]*@", "***@", url))


def passwords(url: str | None) -> list[str]:
    """The passwords in a URL, as they are written and as they are sent.

    A short password is masked only together with the text around it, as in `:abc@`.
    """
    written = re.findall("sentinel_password=([^&]*)", url or "")
    places = [f"sentinel_password={password}" for password in written]
    # Not urlsplit: it refuses addresses with brackets that are allowed here.
    login = re.search("://([^:@/?#]*):([^/?#]*)@", url or "")
    if login is not None:
        user, password = login.groups()
        written.append(password)
        user_and_password = f"{unquote(user)}:{unquote(password)}".encode("latin-1", "replace")
        places += [f":{password}@", b64encode(user_and_password).decode()]
    words = {word for password in written for word in (password, unquote(password)) if len(word) >= MIN_SECRET}
    return [*words, *places]
