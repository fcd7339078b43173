"""The settings: environment variables in, one checked and immutable object out."""

import difflib
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from . import setting_values as allowed
from .errors import SettingsError
from .redis_url import WrongUrl

log = logging.getLogger(__name__)

PREFIX = "C42_"
YEAR = 366 * 24 * 3600
MAX_FILE_VARIABLE_BYTES = 65_536
FILE = "_FILE"


class Settings(BaseModel):
    """All settings. Each field is the variable `C42_<FIELD>` if it has a description, which says what is allowed.

    gunicorn may change the folder: relative names of files are of the folder in which the settings were read.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, validate_default=True)

    api_url: Annotated[str, AfterValidator(allowed.api_url)] = Field(
        "https://demo.calendar42.com/api/v2/",
        description="an http:// or https:// address without user, query and fragment",
    )
    api_token: Annotated[SecretStr, AfterValidator(allowed.token)] = Field(
        description="your C42 API token: one word of 4 or more visible ASCII characters"
    )
    ca_file: Annotated[str, AfterValidator(allowed.ca_file)] | None = Field(
        None, description="the name of a readable PEM file with the certificates of authorities"
    )
    proxy_url: Annotated[str, AfterValidator(allowed.proxy_url)] | None = Field(
        None,
        description=(
            "http://host:port or http://user:password@host:port, in user and password @ as %40, / as %2F and % as %25"
        ),
        repr=False,
    )
    allow_origins: Annotated[str, AfterValidator(allowed.origins)] | None = Field(
        None,
        description="* or a comma-separated list of origins as browsers send them: https://app.example, in small "
        "letters, without a path, and without the port if it is 80 for http or 443 for https",
    )
    bind: Annotated[str, AfterValidator(allowed.bind)] = Field(
        "127.0.0.1:4242", description="host:port, or :port for all IPv4 addresses, with a port up to 65535"
    )
    ops_bind: Annotated[str, AfterValidator(allowed.ops_bind)] | None = Field(
        "127.0.0.1:4243",
        description="host:port or :port, with a port up to 65535, but not 0 and not C42_BIND's; empty to switch it off",
    )
    cache_url: Annotated[str, AfterValidator(allowed.cache_url)] | None = Field(
        None,
        description=(
            "memory://, sqlite:///file without ~ at its start, redis://host:port/db (valkey:// is the same, rediss:// "
            "has TLS), unix:///socket?db=0, redis+sentinel://host:port,host:port/name/db, "
            "or redis+cluster://host:port,host:port"
        ),
        repr=False,
    )
    cache_ttl: float = Field(252, gt=0, le=YEAR, description="a number of seconds, more than 0 and at most a year")
    cache_max_bytes: int = Field(67_108_864, ge=1, description="a whole number of bytes, 1 or more")
    stale_if_error: float = Field(
        3600, ge=0, le=YEAR, description="a number of seconds, at most a year; with 0 no expired answer is served"
    )
    timeout: float = Field(4, gt=0, le=3600, description="a number of seconds, more than 0 and at most an hour")
    breaker_threshold: int = Field(5, ge=0, description="a whole number, 0 or more; with 0 the breaker never opens")
    log_format: Literal["text", "json"] = Field("text", description="text or json")
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="debug, info, warning, error or critical"
    )

    warnings: tuple[str, ...] = Field((), exclude=True, repr=False)
    """One sentence for each likely mistake that does not stop the start."""
    token_file: str | None = Field(None, exclude=True, repr=False)
    """The file with the token, if it is in one."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_small_letters(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("ops_bind")
    @classmethod
    def _has_a_port_of_its_own(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value.rpartition(":")[2] == info.data.get("bind", "").rpartition(":")[2]:
            raise ValueError
        return value

    @property
    def origins(self) -> list[str]:
        """The origins in `allow_origins`, or `*` alone."""
        return [origin.strip(" ") for origin in self.allow_origins.split(",")] if self.allow_origins else []

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the `C42_…` variables of `environ` (default: the process's own); an empty one counts as unset.

        Raises SettingsError if a variable is wrong, with a line for each wrong and each unknown one. If none is wrong,
        the unknown ones become `warnings`.
        """
        environ = os.environ if environ is None else environ
        given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
        values: dict[str, object] = {FIELDS[name]: value for name, value in given.items() if name in FIELDS}
        if environ.get("C42_OPS_BIND") == "":
            values["ops_bind"] = None
        wrong = {field: line for field in SECRETS if (line := _read_secret(field, values, given))}
        unknown = tuple(_unknown(name) for name in sorted(given.keys() - FIELDS.keys() - FILE_VARIABLES))
        values["warnings"] = unknown
        values["token_file"] = allowed.whole_name(file) if (file := given.get("C42_API_TOKEN_FILE")) else None
        # A secret that is given twice is not used at all.
        values = {name: value for name, value in values.items() if name not in wrong}
        try:
            settings = cls.model_validate(values)
        except ValidationError as exc:
            errors = {str(error["loc"][0]): error.get("ctx", {}).get("error") for error in exc.errors()}
            wrong |= {field: _wrong(field, error) for field, error in errors.items() if field not in wrong}
        if not wrong:
            return settings
        # These values replace the wrong ones. They are not shown, and clash with no other.
        stand_in = {"api_token": "stand-in", "bind": "127.0.0.1:0", "ops_bind": None}
        values = {name: value for name, value in values.items() if name not in wrong}
        right = cls.model_validate(values | {name: stand_in[name] for name in wrong if name in stand_in})
        raise SettingsError([*wrong.values(), *unknown], right.explained(environ, wrong))

    @classmethod
    def to_serve(cls, environ: Mapping[str, str] | None = None) -> Self:
        """As `from_env`, and check WEB_CONCURRENCY, too: gunicorn would end with a traceback, or never answer."""
        environ = os.environ if environ is None else environ
        workers = environ.get("WEB_CONCURRENCY") or "1"
        is_right = re.fullmatch("0*[1-9][0-9]{0,5}", workers)
        line = [] if is_right else ["WEB_CONCURRENCY: allowed is a whole number, 1 or more."]
        try:
            settings = cls.from_env(environ)
        except SettingsError as error:
            raise SettingsError([*error.lines, *line], error.rows) from error
        if line:
            raise SettingsError(line, settings.explained(environ))
        return settings

    def log_warnings(self) -> None:
        for sentence in self.warnings:
            log.warning(sentence)

    def explained(
        self, environ: Mapping[str, str] | None = None, wrong: Collection[str] = ()
    ) -> list[tuple[str, str, str]]:
        """Each setting as (variable, effective value with secrets masked, source). Those in `wrong` have no value."""
        environ = os.environ if environ is None else environ
        rows = []
        for variable, field in FIELDS.items():
            file = environ.get(variable + FILE) if field in SECRETS else None
            given = environ.get(variable) or file
            if field in wrong:
                shown = "missing" if field == "api_token" and not given else "wrong"
                is_file = file and not environ.get(variable)
                rows.append((variable, shown, f"file {file}" if is_file else "environment" if given else "default"))
                continue
            value = getattr(self, field)
            shown = "none" if value is None else f"{value}".removesuffix(".0")
            if field == "cache_url" and value is None:
                shown = "an SQLite file of this user's"
            elif field in {"cache_url", "proxy_url"}:
                shown = allowed.masked(shown)
            is_given = given or (field == "ops_bind" and value is None)
            rows.append((variable, shown, f"file {file}" if file else "environment" if is_given else "default"))
        return rows

    def with_token_read_anew(self) -> Self:
        """The same settings with the token that its file holds now, if it is in a file. Raises SettingsError."""
        if self.token_file is None:
            return self
        read: dict[str, object] = {}
        line = _read_secret("api_token", read, {"C42_API_TOKEN_FILE": self.token_file})
        if line is not None:
            raise SettingsError([line])
        return self.model_copy(update={"api_token": SecretStr(str(read["api_token"]))})

    def secrets(self) -> list[str]:
        """What no log line may show: the token, and the passwords in addresses."""
        return [
            self.api_token.get_secret_value(),
            *allowed.passwords(self.proxy_url),
            *allowed.passwords(self.cache_url),
        ]


FIELDS = {f"{PREFIX}{field.upper()}": field for field, info in Settings.model_fields.items() if info.description}
SECRETS: dict[str, Callable[[str], object]] = {
    "api_token": lambda text: allowed.token(SecretStr(text)),
    "proxy_url": allowed.proxy_url,
    "cache_url": allowed.cache_url,
}
"""The settings that may be in a file, each with what raises a ValueError if the text in the file is wrong."""
FILE_VARIABLES = {f"{PREFIX}{field.upper()}{FILE}" for field in SECRETS}
NO_TOKEN = (
    "C42_API_TOKEN: is not set. Set it to your C42 API token, or set C42_API_TOKEN_FILE to a file with the token."  # noqa: S105  # no token
)


def _variable(field: str) -> str:
    return PREFIX + field.upper()


def _allowed(field: str) -> str | None:
    return Settings.model_fields[field].description


def _wrong(field: str, error: object) -> str:
    if isinstance(error, WrongUrl):
        return f"{_variable(field)}: {error}."
    why = f" ({error})" if isinstance(error, allowed.WrongFile) else ""
    return f"{_variable(field)}: allowed is {_allowed(field)}{why}."


def _read_secret(field: str, values: dict[str, object], environ: Mapping[str, str]) -> str | None:
    """Read a secret from the file that its `_FILE` variable names into `values`. Returns a line if that is wrong."""
    variable, file_variable = _variable(field), _variable(field) + FILE
    name = environ.get(file_variable)
    if not name:
        return NO_TOKEN if field == "api_token" and field not in values else None
    if field in values:
        return f"{variable} and {file_variable}: only one of the two may be set."
    try:
        with Path(name).open("rb") as file:
            text = file.read(MAX_FILE_VARIABLE_BYTES).decode().strip()
        SECRETS[field](text)
    except OSError as exc:
        what = "token" if field == "api_token" else "address"
        return f"{file_variable}: allowed is the name of a readable file with the {what} in it ({exc.strerror})."
    except WrongUrl as exc:
        return f"{file_variable}: {exc}."
    except ValueError:
        return f"{file_variable}: the file must hold {_allowed(field)}, and nothing else."
    values[field] = text
    return None


def _unknown(name: str) -> str:
    # Without the prefix, which would make all names similar.
    known = [each.removeprefix(PREFIX) for each in (*FIELDS, *sorted(FILE_VARIABLES))]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
    return f"{name} is not a setting of the proxy." + "".join(f" Did you mean {PREFIX}{each}?" for each in near)
