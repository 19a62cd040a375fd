"""From a plan to the azure-ai-ml object that carries it out on Azure, and to the JSON that goes over the wire.

Pure: no network, no account. The SDK is imported inside functions, because it takes more than a second.
"""

from __future__ import annotations

from azft.payloads.build import build_job, content_references
from azft.payloads.wire import to_wire

__all__ = ["build_job", "content_references", "to_wire"]
