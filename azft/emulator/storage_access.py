"""Who may touch the storage account: shared keys, SAS signed by a key or by an identity, and tokens.

The signatures are really checked, in the form of Azure's documentation ("Create a service SAS", "Authorize with Shared
Key"), so that a client which builds one wrongly finds out here. A storage account with keys disabled is the fault
`storage-keys-disabled`; identities, and SAS that an identity signed, then still work.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit

from azft.emulator import identity
from azft.emulator.http import ApiError, Request, Response
from azft.emulator.settings import ACCOUNT, CONTAINER, TENANT

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

AUDIENCE = "https://storage.azure.com"
SAS_VERSION = "2021-12-02"
_DELEGATED = ("skoid", "sktid", "skt", "ske", "sks", "skv")
_SIGNED = ("sip", "spr", "sv", "sr", "snapshot", "ses", "rscc", "rscd", "rsce", "rscl", "rsct")
_KEY_HEADERS = (
    "content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
    "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "byte_range",
)  # fmt: skip


class StorageError(ApiError):
    """An error in the form of Azure Storage: XML, and the code in a header, because HEAD has no body."""

    def response(self) -> Response:
        """The reply that carries it."""
        inside = f"<Code>{self.code}</Code><Message>{self.message}</Message>"
        text = f'<?xml version="1.0" encoding="utf-8"?><Error>{inside}</Error>'
        headers = {"Content-Type": "application/xml", "x-ms-error-code": self.code, **self.headers}
        return Response(self.status, text.encode(), headers)


def keys_disabled(emu: Emulator) -> bool:
    """Whether the account takes identities only."""
    return emu.faults.active("storage-keys-disabled") is not None


def account_key(emu: Emulator) -> str:
    """The account's key, base64."""
    return base64.b64encode(hashlib.sha512(f"account key {emu.secret}".encode()).digest()).decode()


def sas(emu: Emulator, path: str = "", *, permissions: str = "r", container: str = CONTAINER) -> str:
    """A SAS token of a day for a blob, or for a container if `path` is empty; an identity's if keys are disabled."""
    fields = {**_validity(), "sr": "b" if path else "c", "sp": permissions}
    if keys_disabled(emu):
        fields |= {"skoid": identity.PRINCIPAL, "sktid": TENANT, "skt": fields["st"], "ske": fields["se"]}
        fields |= {"sks": "b", "skv": SAS_VERSION}
    fields["sig"] = _sign_sas(emu, fields, container, path)
    return urlencode(fields, quote_via=quote)


def account_sas(emu: Emulator, permissions: str) -> str:
    """A SAS token of a day for the whole account, signed by its key: what a datastore's secret is."""
    fields = {**_validity(), "ss": "b", "srt": "sco", "sp": permissions}
    fields["sig"] = _sign_sas(emu, fields, "", "")
    return urlencode(fields, quote_via=quote)


def _validity() -> dict[str, str]:
    now = datetime.now(UTC)
    start, end = _time(now - timedelta(minutes=15)), _time(now + timedelta(hours=24))
    return {"sv": SAS_VERSION, "spr": "https", "st": start, "se": end}


def blob_url(emu: Emulator, path: str = "", *, container: str = CONTAINER) -> str:
    """Where a blob is, without a SAS."""
    return f"{emu.url}/{ACCOUNT}/{container}" + (f"/{quote(path)}" if path else "")


def sas_url(emu: Emulator, path: str = "", *, permissions: str = "r", container: str = CONTAINER) -> str:
    """Where a blob is, with a SAS: what Azure writes into a run's `logFiles`."""
    return f"{blob_url(emu, path, container=container)}?{sas(emu, path, permissions=permissions, container=container)}"


def authorise(emu: Emulator, request: Request, container: str, path: str, permission: str) -> None:
    """Raise `StorageError` unless the request may do what needs one of the letters of `permission`."""
    if "sig" in request.query:
        _check_sas(emu, request, container, path, permission)
        return
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        _check_token(emu, value)
    elif scheme == "SharedKey":
        if keys_disabled(emu):
            raise _no_keys()
        if not hmac.compare_digest(value, f"{ACCOUNT}:{_sign_request(emu, request)}"):
            raise _failed("The MAC signature found in the HTTP request is not the same as any computed signature.")
    else:
        message = (
            "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
        )
        where = f"https://login.microsoftonline.com/{TENANT}/oauth2/authorize"
        challenge = f"Bearer authorization_uri={where} resource_id={AUDIENCE}"
        raise StorageError(401, "NoAuthenticationInformation", message, headers={"WWW-Authenticate": challenge})


def _check_sas(emu: Emulator, request: Request, container: str, path: str, permission: str) -> None:
    fields = request.query
    delegated = "skoid" in fields
    if keys_disabled(emu) and not delegated:
        raise _no_keys()
    resource = path if fields.get("sr") == "b" else ""
    if not hmac.compare_digest(fields["sig"], _sign_sas(emu, dict(fields), container, resource)):
        raise _failed("Signature did not match.")
    if _parse(fields.get("se", "")) < datetime.now(UTC):
        raise _failed("Signature not valid in the specified time frame: it has expired.")
    if not set(permission) & set(fields.get("sp", "")):
        message = "This request is not authorized to perform this operation using this permission."
        raise StorageError(403, "AuthorizationPermissionMismatch", message)


def _check_token(emu: Emulator, token: str) -> None:
    try:
        claims = identity.check(emu.secret, token)
    except ApiError as error:
        raise StorageError(401, "InvalidAuthenticationInfo", error.message) from None
    if not str(claims["aud"]).startswith((AUDIENCE, f"https://{ACCOUNT}.blob.")):
        raise StorageError(401, "InvalidAuthenticationInfo", "Issuer or audience validation failed for the token.")


def _no_keys() -> StorageError:
    message = "Key based authentication is not permitted on this storage account."
    return StorageError(403, "KeyBasedAuthenticationNotPermitted", message)


def _failed(detail: str) -> StorageError:
    message = f"Server failed to authenticate the request. {detail}"
    return StorageError(403, "AuthenticationFailed", message)


def _sign_sas(emu: Emulator, fields: dict[str, str], container: str, path: str) -> str:
    if "srt" in fields:
        names = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")
        return _hmac(account_key(emu), "\n".join([ACCOUNT, *(fields.get(name, "") for name in names), ""]))
    resource = f"/blob/{ACCOUNT}/{container}" + (f"/{path}" if path else "")
    if "skoid" in fields:
        # saoid, suoid and scid are never set here; they are signed as empty lines.
        key = base64.b64encode(hashlib.sha512(f"delegation key {emu.secret}".encode()).digest()).decode()
        signer = [fields.get(name, "") for name in _DELEGATED] + ["", "", ""]
    else:
        key = account_key(emu)
        signer = [fields.get("si", "")]
    lines = [fields.get(name, "") for name in ("sp", "st", "se")] + [resource, *signer]
    return _hmac(key, "\n".join(lines + [fields.get(name, "") for name in _SIGNED]))


def _sign_request(emu: Emulator, request: Request) -> str:
    headers = dict(request.headers)
    if headers.get("content-length") == "0":
        del headers["content-length"]
    lines = [request.method, *(headers.get(name, "") for name in _KEY_HEADERS)]
    lines += [f"{name}:{value}" for name, value in sorted(headers.items()) if name.startswith("x-ms-")]
    lines.append(f"/{ACCOUNT}{urlsplit(request.url).path}")
    lines += [f"{name.lower()}:{unquote(value)}" for name, value in sorted(request.query.items())]
    return _hmac(account_key(emu), "\n".join(lines))


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _failed("The expiry time of the signature is malformed.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
