"""The storage account's REST, as azure-storage-blob speaks it: block blobs in containers, by path (`/account/...`)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from email.utils import formatdate
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from azft.emulator.blobs import Blob, Container
from azft.emulator.http import Request, Response, Route
from azft.emulator.settings import ACCOUNT
from azft.emulator.storage_access import StorageError, authorise

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

CONTAINER_PATH = f"/{ACCOUNT}/{{container}}"
BLOB_PATH = f"/{ACCOUNT}/{{container}}/{{blob:path}}"
PAGE = 5000


def _common(extra: dict[str, str] | None = None) -> dict[str, str]:
    return {"x-ms-version": "2023-11-03", "Date": formatdate(usegmt=True), **(extra or {})}


def _open(emu: Emulator, request: Request, permission: str) -> tuple[Container, str]:
    container, blob = request.params["container"], request.params.get("blob", "")
    authorise(emu, request, container, blob, permission)
    if request.query.get("snapshot") or request.query.get("versionid"):
        raise StorageError(400, "UnsupportedQueryParameter", "The emulator keeps no snapshots or versions.")
    return Container(emu, ACCOUNT, container), blob


def _metadata(request: Request) -> dict[str, str]:
    start = "x-ms-meta-"
    return {name[len(start) :]: value for name, value in request.headers.items() if name.startswith(start)}


def _conditions(request: Request, found: Blob | None) -> None:
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    if unwanted == "*" and found is not None:
        raise StorageError(409, "BlobAlreadyExists", "The specified blob already exists.")
    if wanted and (found is None or wanted not in {"*", found.etag}):
        raise StorageError(
            412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met."
        )
    if unwanted and found is not None and unwanted == found.etag:
        status = 304 if request.method in {"GET", "HEAD"} else 412
        raise StorageError(status, "ConditionNotMet", "The condition specified is not met.")


def get_blob(emu: Emulator, request: Request) -> Response:
    """GET a blob, or a range of it."""
    container, name = _open(emu, request, "r")
    found = container.get(name)
    _conditions(request, found)
    asked = request.headers.get("x-ms-range") or request.headers.get("range")
    headers = _common(found.headers())
    if request.query.get("comp") == "metadata":
        return Response(200, None, headers)
    if not asked:
        return Response(200, container.read(name), headers)
    start, end = _range(asked, found.size)
    content = container.read(name, start, end - start + 1)
    if md5 := headers.pop("Content-MD5", ""):
        headers["x-ms-blob-content-md5"] = md5
    # A log grows while it is read: say where what was really read ends.
    headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{max(found.size, start + len(content))}"
    return Response(206, content, headers)


def _range(asked: str, size: int) -> tuple[int, int]:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.strip())
    if match is None:
        raise StorageError(
            400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format."
        )
    start, end = int(match[1]), int(match[2]) if match[2] else size - 1
    if start >= size:
        message = "The range specified is invalid for the current size of the resource."
        raise StorageError(416, "InvalidRange", message, headers={"Content-Range": f"bytes */{size}"})
    return start, min(end, size - 1)


def head_blob(emu: Emulator, request: Request) -> Response:
    """HEAD: a blob's properties and metadata."""
    container, name = _open(emu, request, "r")
    found = container.get(name)
    _conditions(request, found)
    return Response(200, None, _common({**found.headers(), "Content-Length": str(found.size)}))


def put_blob(emu: Emulator, request: Request) -> Response:
    """PUT a blob, a block, a list of blocks, or a blob's metadata or properties."""
    operation = request.query.get("comp", "")
    container, name = _open(emu, request, "w" if operation == "metadata" else "cw")
    if operation == "block":
        container.stage(name, request.query["blockid"], request.body)
        return Response(201, None, _common())
    _conditions(request, container.find(name))
    content_type = request.headers.get("x-ms-blob-content-type", "")
    if operation == "":
        kind = request.headers.get("x-ms-blob-type", "BlockBlob")
        if kind != "BlockBlob" or "x-ms-copy-source" in request.headers:
            raise StorageError(501, "NotEmulated", "The emulator covers block blobs that are sent, no other kind.")
        blob = container.put(name, request.body, _metadata(request), content_type)
        return Response(201, None, _common(_changed(blob)))
    if operation == "blocklist":
        blocks = [element.text or "" for element in _xml(request.body)]
        blob = container.commit(name, blocks, _metadata(request), content_type)
        return Response(201, None, _common(_changed(blob)))
    if operation == "metadata":
        return Response(200, None, _common(_changed(container.set_metadata(name, _metadata(request)))))
    if operation == "properties":
        return Response(200, None, _common(_changed(container.get(name))))
    raise StorageError(501, "NotEmulated", f"The emulator does not cover comp={operation} of a blob.")


def _xml(body: bytes) -> ET.Element:
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise StorageError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.")
    try:
        return ET.fromstring(body)  # noqa: S314 - it has no document type, hence no entities
    except ET.ParseError:
        raise StorageError(400, "InvalidXmlDocument", "XML specified is not syntactically valid.") from None


def _changed(blob: Blob) -> dict[str, str]:
    headers = blob.headers()
    kept: dict[str, str] = {name: headers[name] for name in ("ETag", "Last-Modified", "Content-MD5") if name in headers}
    return {**kept, "x-ms-request-server-encrypted": "true"}


def delete_blob(emu: Emulator, request: Request) -> Response:
    """DELETE a blob."""
    container, name = _open(emu, request, "d")
    container.delete(name)
    return Response(202, None, _common())


def get_container(emu: Emulator, request: Request) -> Response:
    """GET a container's list of blobs, or its properties. Containers are there without being made."""
    container, _ = _open(emu, request, "lr")
    if request.query.get("comp") != "list":
        headers = {"ETag": '"0x1"', "Last-Modified": formatdate(emu.created, usegmt=True)}
        return Response(
            200, None, _common({**headers, "x-ms-lease-state": "available", "x-ms-lease-status": "unlocked"})
        )
    prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
    marker, most = request.query.get("marker", ""), int(request.query.get("maxresults", PAGE))
    entries: list[str] = []
    after, last, seen = "", "", set[str]()
    for name in container.names(prefix):
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        shown = prefix + head + delimiter if found else name
        if shown in seen or (marker and shown <= marker):
            continue
        if len(entries) == most:
            after = last
            break
        seen.add(shown)
        last = shown
        entries.append(
            f"<BlobPrefix><Name>{escape(shown)}</Name></BlobPrefix>" if found else _entry(container.get(name))
        )
    text = (
        f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="{emu.url}/{ACCOUNT}/"'
        f' ContainerName="{escape(request.params["container"])}"><Prefix>{escape(prefix)}</Prefix>'
        f"<Blobs>{''.join(entries)}</Blobs><NextMarker>{escape(after)}</NextMarker></EnumerationResults>"
    )
    return Response(200, text.encode(), _common({"Content-Type": "application/xml"}))


def _entry(blob: Blob) -> str:
    metadata = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in blob.metadata.items())
    when = formatdate(blob.modified, usegmt=True)
    return (
        f"<Blob><Name>{escape(blob.name)}</Name><Properties><Creation-Time>{when}</Creation-Time>"
        f"<Last-Modified>{when}</Last-Modified><Etag>{escape(blob.etag)}</Etag>"
        f"<Content-Length>{blob.size}</Content-Length><Content-Type>{escape(blob.content_type)}</Content-Type>"
        f"<Content-MD5>{blob.content_md5}</Content-MD5><BlobType>BlockBlob</BlobType>"
        "<AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
        f"</Properties><Metadata>{metadata}</Metadata></Blob>"
    )


def put_container(emu: Emulator, request: Request) -> Response:
    """PUT a container."""
    container, _ = _open(emu, request, "cw")
    folder = container.path("")
    if folder.exists():
        raise StorageError(409, "ContainerAlreadyExists", "The specified container already exists.")
    folder.mkdir(parents=True)
    return Response(201, None, _common({"ETag": '"0x1"', "Last-Modified": formatdate(usegmt=True)}))


ROUTES = (
    Route("GET", CONTAINER_PATH, get_container, auth="none"),
    Route("HEAD", CONTAINER_PATH, get_container, auth="none"),
    Route("PUT", CONTAINER_PATH, put_container, auth="none"),
    Route("GET", BLOB_PATH, get_blob, auth="none"),
    Route("HEAD", BLOB_PATH, head_blob, auth="none"),
    Route("PUT", BLOB_PATH, put_blob, auth="none"),
    Route("DELETE", BLOB_PATH, delete_blob, auth="none"),
)
