"""The SDK's service clients, made when something is first asked of them.

An `MLClient` makes seventeen of them, one for each version of the service's interface, with forty groups of operations
each; a client of a flow asks two or three. In a sweep of thousands of clients that was a fifth of all time.
"""

from __future__ import annotations

from typing import Any

import pytest


def make_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a service client keep what it is made of, until one of its operations is called."""
    from azure.ai.ml._restclient.arm_ml_service import MachineLearningServicesMgmtClient as Client

    make = Client.__init__

    def keep(client: Any, *given: Any, **options: Any) -> None:
        vars(client)["_unmade"] = (given, options)

    def look(client: Any, name: str) -> Any:
        """What a client that isn't made yet has no attribute for."""
        if "_unmade" not in vars(client):
            raise AttributeError(name)
        if not name.startswith("_"):
            return _Operations(client, name)
        return getattr(_made(client), name)

    def _made(client: Any) -> Any:
        unmade = vars(client).pop("_unmade", None)
        if unmade is not None:
            make(client, *unmade[0], **unmade[1])
        return client

    class _Operations:
        """A group of operations of a client that may not be made yet."""

        def __init__(self, client: Any, name: str) -> None:
            self.__client = client
            self.__name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(getattr(_made(self.__client), self.__name), name)

    monkeypatch.setattr(Client, "__init__", keep)
    monkeypatch.setattr(Client, "__getattr__", look, raising=False)
