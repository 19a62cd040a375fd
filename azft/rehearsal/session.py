"""Azure played on this machine, for as long as it is wanted: the emulator, and an environment that points to it.

Records lie apart, under `.azft/rehearsal/`, and every rehearsal begins with nothing: what it shows is not left over
from the last one. What was in the environment before comes back at the end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from azft import api
from azft.azureml.connection import forget_connections
from azft.errors import UsageError
from azft.extras import needs
from azft.files import write_json
from azft.plan import Plan
from azft.runs import RunStore

if TYPE_CHECKING:
    from azft.emulator import Emulator

_MARK = "rehearsal.json"
_SIGN_INS = (
    "AZURE_AUTHORITY_HOST", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_PASSWORD", "AZURE_TENANT_ID", "AZURE_TOKEN_CREDENTIALS",
    "AZURE_USERNAME", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET",
)  # fmt: skip
"""Variables of real sign-ins. Taken away meanwhile: they would be tried first, at Azure's own address."""
_CLOUD = "AZUREML_CURRENT_CLOUD"
"""Set by the SDK itself once a client is made; it must not be left to this process's children."""
_LOOPBACK = "127.0.0.1,localhost"

_current: Rehearsal | None = None
"""The environment is the whole process's, so there is one at a time."""


class Rehearsal:
    """A rehearsal: a context manager, or `start()` and `close()` where a `with` doesn't reach, as in a notebook."""

    def __init__(self, *plans: Plan, home: Path | None = None, keep: bool = False) -> None:
        """`plans` get what they need as soon as it starts. `home` keeps the records; with `keep` earlier ones too."""
        self.plans = plans
        self.home = (home or _home()).absolute()
        self.keep = keep
        self._emulator: Emulator | None = None
        self._before: dict[str, str | None] = {}
        self._lock = FileLock(f"{self.home}.lock")

    @property
    def emulator(self) -> Emulator:
        """What plays Azure. Raises `UsageError` when the rehearsal isn't on."""
        if self._emulator is None:
            raise UsageError("The rehearsal is not on.", fix="Start it: rehearsal.start()")
        return self._emulator

    def start(self) -> Self:
        """Begin. One that was begun in this process before ends first."""
        global _current  # noqa: PLW0603 - see its docstring
        with needs("emulator", "A rehearsal"):
            from azft.emulator import Emulator, Settings
            from azft.rehearsal.seeds import server_command, trainer_command
        if _current is not None:
            _current.close()
        self._claim()
        try:
            settings = Settings(trainer_command=trainer_command(), server_command=server_command())
            self._emulator = Emulator(self.home / "azure", settings=settings)
            self._emulator.start()
            self._enter(self._emulator.environment())
            _current = self
            atexit.register(self.close)
            for plan in self.plans:
                self.ready(plan)
        except BaseException:
            self.close()
            raise
        return self

    def ready(self, plan: Plan, *, cluster: bool = True) -> list[str]:
        """Make what a plan needs of Azure and isn't there: model, pipeline, cluster. Returns what was made."""
        from azft.rehearsal.seeds import seed

        return seed(self.emulator, plan, cluster=cluster)

    def close(self) -> None:
        """End it: nothing answers any more, and the environment is as it was. The records stay."""
        global _current  # noqa: PLW0603
        if self._emulator is not None:
            self._emulator.stop()
            self._emulator = None
        self._leave()
        with contextlib.suppress(KeyError):
            atexit.unregister(self.close)
        if _current is self:
            _current = None
        if self._lock.is_locked:
            self._lock.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        on = "is not on" if self._emulator is None else f"plays Azure at {self._emulator.url}; nothing is billed"
        return f"<Rehearsal in {self.home}: {on}>"

    def _claim(self) -> None:
        """Make the folder one's own, and empty."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"A rehearsal is on in {self.home} already.", fix="Let it end first, or move this one: set AZFT_HOME."
            ) from None
        if self.home.is_dir() and any(self.home.iterdir()) and not (self.home / _MARK).is_file():
            self._lock.release()
            raise UsageError(f"{self.home} holds something else than a rehearsal.", fix="Name another folder.")
        if not self.keep and self.home.is_dir():
            shutil.rmtree(self.home)
        write_json(self.home / _MARK, {"pid": os.getpid(), "what": "a rehearsal's records; may be deleted"})

    def _enter(self, variables: dict[str, str]) -> None:
        no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY"), _LOOPBACK]))
        wanted: dict[str, str | None] = dict.fromkeys(_SIGN_INS)
        wanted |= {**variables, "AZFT_HOME": str(self.home), "NO_PROXY": no_proxy, "no_proxy": no_proxy}
        self._before = {name: os.environ.get(name) for name in (*wanted, _CLOUD)}
        _set(wanted)
        forget_connections()  # a token of the real Azure must not be shown here, nor the other way round

    def _leave(self) -> None:
        if self._before:
            _set(self._before)
            self._before = {}
            forget_connections()


def rehearsal(
    *what: Plan | api.RecipeLike, mode: str = "maap", home: Path | None = None, keep: bool = False
) -> Rehearsal:
    """Azure on this machine, for the recipes or plans that are to be tried there.

    Use it with `with`, or `.start()` and `.close()`. Meanwhile everything that azft does with Azure in this process
    goes to the emulator: a stand-in is trained by the job that would be sent; nothing leaves this machine or is billed.

    Args:
        what: Recipes (or paths of recipes; planned for `mode`) and plans. What they need of Azure is made at the start.
        mode: maas or maap.
        home: Where the records go; `.azft/rehearsal` by default.
        keep: Go on from what an earlier rehearsal left there.
    """
    plans = [given if isinstance(given, Plan) else api.plan(given, mode) for given in what]
    return Rehearsal(*plans, home=home, keep=keep)


def _home() -> Path:
    """Beside the runs of this folder; AZFT_HOME may still be that of a rehearsal that is on."""
    root = RunStore().root
    return root if (root / _MARK).is_file() else root / "rehearsal"


def _set(variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
