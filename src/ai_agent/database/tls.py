"""TLS to the database: what libpq's parameters ask for, and nothing weaker. Files are read at start."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ai_agent.database.parameters import Parameters
from ai_agent.errors import ConfigurationError

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_OTHER_WORDS = {"true": "require", "1": "require", "false": "disable", "0": "disable"}

# Where the URL allows an older version, the oldest safe one is the lowest, which is stronger than asked.
_VERSIONS = {
    "tlsv1": ssl.TLSVersion.TLSv1_2,
    "tlsv1.1": ssl.TLSVersion.TLSv1_2,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}

# What to try in order: a context, or None for a connection without TLS.
type Attempts = tuple[ssl.SSLContext | None, ...]


def read_attempts(parameters: Parameters) -> Attempts:
    """The ways to connect that the sslmode allows; raises ConfigurationError for an unusable file or value."""
    mode = _read_mode(parameters)
    direct = _choose(parameters, "sslnegotiation", ("postgres", "direct")) == "direct"
    if direct and mode in ("disable", "allow", "prefer"):
        raise _wrong(parameters, "sslnegotiation", "has sslnegotiation=direct, which needs sslmode=require or stronger")
    context = _make_context(mode, parameters)  # It is made even if nothing uses it, so that a mistake in it shows.
    match mode:
        case "disable":
            return (None,)
        case "allow":
            return (None, context)
        case "prefer":
            return (context, None)
    return (context,)


def _read_mode(parameters: Parameters) -> str:
    """Settle on one sslmode, the strongest that is asked for.

    `ssl` is how asyncpg, JDBC and others spell it, and PGREQUIRESSL is libpq's old way.
    """
    asked = {"sslmode": parameters.get("sslmode"), "ssl": parameters.get("ssl") or None}
    asked = {name: _OTHER_WORDS.get(mode, mode) for name, mode in asked.items() if mode is not None}
    for name, asked_mode in asked.items():
        if asked_mode not in _MODES:
            raise _wrong(parameters, name, f"has an unknown sslmode; use one of {', '.join(_MODES)}")
    mode = max(asked.values(), key=_MODES.index, default=None)
    if mode is None and parameters.get("requiressl") == "1":
        mode = "require"
    if parameters.get("sslrootcert") == "system":  # libpq's rule: a weaker mode would let anyone with a certificate in.
        mode = mode or "verify-full"
        if mode != "verify-full":
            raise _wrong(parameters, "sslrootcert", "has sslrootcert=system, which needs sslmode=verify-full")
    binding = _choose(parameters, "channel_binding", ("disable", "prefer", "require"))
    if binding == "require" and mode == "disable":
        raise _wrong(
            parameters, "channel_binding", "has channel_binding=require, which needs TLS: change sslmode=disable"
        )
    if binding == "require" and mode in (None, "allow", "prefer"):
        mode = "require"  # Channel binding itself is beyond asyncpg, but it implies TLS.
    return mode or "prefer"


def _make_context(mode: str, parameters: Parameters) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    context.set_alpn_protocols(["postgresql"])
    _limit_versions(context, parameters)
    trusts = _load_roots(context, mode, parameters)
    if not trusts or mode in ("disable", "allow", "prefer"):
        context.verify_mode = ssl.CERT_NONE
    _load_revoked(context, parameters)
    if _choose(parameters, "sslcertmode", ("disable", "allow")) != "disable":
        _load_certificate(context, parameters)
    return context


def _limit_versions(context: ssl.SSLContext, parameters: Parameters) -> None:
    lowest, highest = "ssl_min_protocol_version", "ssl_max_protocol_version"
    for name in (lowest, highest):
        if parameters.get(name, "tlsv1.2").lower() not in _VERSIONS:
            raise _wrong(parameters, name, f"has an unknown {name}; use TLSv1.2 or TLSv1.3")
    if parameters.get(highest, "").lower() in ("tlsv1", "tlsv1.1"):
        raise _wrong(parameters, highest, f"has a {highest} that is no longer safe; use TLSv1.2 or TLSv1.3")
    context.minimum_version = _VERSIONS[parameters.get(lowest, "tlsv1.2").lower()]
    if highest in parameters:
        context.maximum_version = _VERSIONS[parameters[highest].lower()]
        if context.maximum_version < context.minimum_version:
            raise _wrong(parameters, highest, f"has a {highest} below {lowest}: swap them")


def _load_roots(context: ssl.SSLContext, mode: str, parameters: Parameters) -> bool:
    """Trust the named authorities, else those of libpq's default file, else, to verify, the system's; False if none."""
    root = parameters.get("sslrootcert") or _default_file("root.crt")
    if root and root != "system":
        _load(parameters, "sslrootcert", root, lambda: context.load_verify_locations(cafile=root))
        return True
    if root == "system" or mode.startswith("verify-"):
        context.load_default_certs()
        return True
    return False


def _load_revoked(context: ssl.SSLContext, parameters: Parameters) -> None:
    folder = parameters.get("sslcrldir")
    file = parameters.get("sslcrl") or (None if folder else _default_file("root.crl"))
    if file:
        _load(parameters, "sslcrl", file, lambda: context.load_verify_locations(cafile=file))
    if folder:
        _load(parameters, "sslcrldir", folder, lambda: next(Path(folder).iterdir(), None))
        context.load_verify_locations(capath=folder)
    if file or folder:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load_certificate(context: ssl.SSLContext, parameters: Parameters) -> None:
    """The client's own certificate. Its key may be in the same file."""
    certificate = parameters.get("sslcert") or _default_file("postgresql.crt")
    key = parameters.get("sslkey") or _default_file("postgresql.key")
    if certificate is None:
        if "sslkey" in parameters:
            raise _wrong(parameters, "sslkey", "has sslkey without a certificate: name one with sslcert")
        return
    password = parameters.get("sslpassword", "")  # Without any, OpenSSL would ask for one on the terminal.
    for name, file in (("sslcert", certificate), ("sslkey", key or certificate)):
        _load(parameters, name, file, Path(file).read_bytes)
    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        remedy = f"name the key of {certificate} with sslkey, and the key's password with sslpassword"
        problem = f"names a certificate and a key that cannot be used together ({error}): {remedy}"
        raise _wrong(parameters, "sslcert", problem) from None


def _load(parameters: Parameters, name: str, file: str, load: Callable[[], object]) -> None:
    try:
        load()
    except OSError as error:  # OpenSSL also raises one for a file that holds something else.
        problem = f"names a certificate or key that cannot be read ({name}, {file}: {error.strerror or error})"
        raise _wrong(parameters, name, problem) from None


def _default_file(name: str) -> str | None:
    """One of libpq's default files, if it is there. A home that the process may not enter counts as empty."""
    with suppress(OSError, RuntimeError):
        file = Path.home() / ".postgresql" / name
        return str(file) if file.exists() else None
    return None


def _choose(parameters: Parameters, name: str, values: tuple[str, ...]) -> str | None:
    value = parameters.get(name) or None
    if value is not None and value not in values:
        raise _wrong(parameters, name, f"has a {name} that is not supported; use {' or '.join(values)}")
    return value


def _wrong(parameters: Parameters, name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{parameters.source(name)} {problem}")
