"""The address of a Redis or Valkey, as C42_CACHE_URL has it: one server, a socket, Sentinels, or a cluster."""

import re
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

_SHAPE = re.compile(
    r"(?P<scheme>(?:redis|valkey)(?P<tls>s)?(?:\+(?P<kind>sentinel|cluster))?|unix)://"
    r"(?:(?P<user>[^/?#\s]*)@)?(?P<hosts>[^/?#@\s]*)(?P<path>[^?#\s]*)(?:\?(?P<query>[^#\s]*))?"
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_PATHS = {
    "server": ("/?|/(?P<db>[0-9]+)", "after the host comes the number of the database, as in redis://host:6379/0"),
    "socket": ("/.+", "after unix:// comes the whole path of a socket, as in unix:///run/redis/redis.sock?db=0"),
    "sentinel": (
        # A number alone is a database whose primary has been forgotten.
        "/(?![0-9]+$)(?P<name>[^/]+)(?:/(?P<db>[0-9]*))?",
        "after the Sentinels come the name of the primary that they watch, and the number of the database, "
        "as in redis+sentinel://one:26379,two:26379/mymaster/0",
    ),
    "cluster": ("/?|/0", "a cluster has only database 0, as in redis+cluster://one:6379,two:6379"),
}
"""What follows the hosts, and how to say that something else does."""
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_ENCODED = "in a user and a password, write / as %2F, ? as %3F, # as %23 and @ as %40"

Kind = Literal["server", "socket", "sentinel", "cluster"]


class WrongUrl(ValueError):
    """What is wrong, in a sentence for the operator. It quotes nothing of the URL, which may have a password in it."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says. `login`, `sentinel_login` and `files` have the names of redis-py's options."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    """Of the server, the Sentinels, or some nodes."""
    path: str = ""
    """Of the socket."""
    name: str = ""
    """Of the primary, as the Sentinels know it."""
    db: int = 0
    files: dict[str, str] = field(default_factory=dict)
    login: dict[str, str] = field(default_factory=dict, repr=False)
    sentinel_login: dict[str, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def is_meant(url: str) -> bool:
        """Whether the scheme is one of these."""
        return re.match(r"(redis|valkey)s?(\+[a-z]*)?:|unix:", url) is not None

    @classmethod
    def parsed(cls, url: str) -> "RedisUrl":
        """Raises WrongUrl, also if a certificate or key that the URL names cannot be used."""
        shape = _SHAPE.fullmatch(url)
        if shape is None:
            raise WrongUrl(
                "an address of Redis begins with redis://, rediss:// (with TLS), valkey://, unix://, redis+sentinel:// "
                f"or redis+cluster://, and has neither spaces nor #; {_ENCODED}"
            )
        kind: Any = shape["kind"] or ("socket" if shape["scheme"] == "unix" else "server")
        tls = shape["tls"] is not None
        parameters = _parameters(kind, tls, shape["query"])
        hosts = _hosts(kind, shape["hosts"])
        allowed, sentence = _PATHS[kind]
        path = re.fullmatch(allowed, shape["path"])
        if path is None:
            raise WrongUrl(sentence)
        user, _, password = (shape["user"] or "").partition(":")
        found = path.groupdict() | parameters
        return cls(
            kind,
            tls,
            hosts,
            unquote(shape["path"]) if kind == "socket" else "",
            unquote(found.get("name", "")),
            int(found.get("db") or 0),
            {name: value for name, value in parameters.items() if name in _FILES},
            _login(unquote(user), unquote(password)),
            _login(parameters.get("sentinel_username", ""), parameters.get("sentinel_password", "")),
        )

    def __str__(self) -> str:
        """Where it is, for messages."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return self.path or (f"{hosts}/{self.name}" if self.name else hosts)


def _hosts(kind: Kind, text: str) -> tuple[tuple[str, int], ...]:
    if kind == "socket":
        if text:
            raise WrongUrl(_PATHS[kind][1])
        return ()
    matches = [_HOST.fullmatch(each) for each in text.split(",")]
    default = 26379 if kind == "sentinel" else 6379
    hosts = tuple((match[1].strip("[]"), int(match[2] or default)) for match in matches if match)
    if len(hosts) != len(matches) or any(port not in range(1, 65536) for _host, port in hosts):
        raise WrongUrl(f"expected is host or host:port, with a port from 1 to 65535; {_ENCODED}")
    if kind == "server" and len(hosts) != 1:
        raise WrongUrl("for several hosts, take redis+sentinel:// or redis+cluster://")
    return hosts


def _parameters(kind: Kind, tls: bool, query: str | None) -> dict[str, str]:
    allowed = [*(_FILES if tls else ()), *(["sentinel_username", "sentinel_password"] if kind == "sentinel" else ())]
    allowed += ["db"] if kind == "socket" else []
    found = {}
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        if name not in allowed or not value:
            raise WrongUrl(
                f"the parameters that this kind of address may have after ? are {', '.join(allowed) or 'none'} "
                f"(those of TLS go with rediss); {_ENCODED}"
            )
        found[name] = unquote(value)
    if not re.fullmatch("[0-9]+", found.get("db", "0")):
        raise WrongUrl("db is the number of a database")
    _check_files(found)
    return found


def _check_files(parameters: dict[str, str]) -> None:
    """Each connection reads the files anew: find out at the start whether that can work."""
    ca, certificate, key = (parameters.get(name) for name in _FILES)
    if key and not certificate:
        raise WrongUrl("ssl_keyfile needs ssl_certfile")
    try:
        context, named = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ssl_ca_certs must be"
        if ca:
            context.load_verify_locations(ca)
        if certificate:
            named = "ssl_certfile and ssl_keyfile must be a pair without a passphrase,"
            # With a passphrase, OpenSSL would ask for it at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or type(exc).__name__
        raise WrongUrl(f"{named} readable PEM files ({why})") from None


def _login(username: str, password: str) -> dict[str, str]:
    return {name: value for name, value in (("username", username), ("password", password)) if value}
