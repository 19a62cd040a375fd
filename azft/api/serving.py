"""After a run: talking to its model, registering and deploying it, and ending all that bills."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from azft.api.planning import access_of
from azft.api.running import OnEvent, connect_for, mode_of, run_of
from azft.errors import NotFoundError

if TYPE_CHECKING:
    from azft.azureml.connection import Access
    from azft.azureml.deployment import Deployment
    from azft.azureml.ending import Outcome
    from azft.azureml.inference import EndpointChat
    from azft.azureml.inventory import Item
    from azft.azureml.registration import RegisteredModel
    from azft.azureml.serving_choice import Kind
    from azft.azureml.teardown import Whole
    from azft.chat import Chat
    from azft.runs import Run


def open_chat(what: Run | Path | str) -> Chat:
    """A model to talk to: a run's result (by the run, or its name), or any model folder (as a `Path`). Loads torch."""
    from azft.chat import open_chat as load

    if isinstance(what, Path):
        return load(what)
    try:
        return load(run_of(what))
    except NotFoundError as error:
        if isinstance(what, str) and Path(what).is_dir():
            raise NotFoundError(error.message, fix=f"For the model in that folder: open_chat(Path({what!r}))") from None
        raise


def register(
    run: Run | str, *, name: str | None = None, access: Access | None = None, on_event: OnEvent | None = None
) -> RegisteredModel:
    """The run's model in the workspace, registered when it isn't yet; the same version however often it is asked for.

    Raises `JobFailedError` for a run that did not complete and `NotFoundError` when it has no model.
    """
    from azft.azureml.registration import register as have

    found = _fresh(run, access)
    return have(connect_for(found, access), found, name=name, on_event=on_event)


def deploy(
    run: Run | str,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    instance_type: str | None = None,
    instances: int = 1,
    access: Access | None = None,
    on_event: OnEvent | None = None,
) -> Deployment:
    """The run's model behind an endpoint that answers: one, however often it is asked for. It bills until `down`.

    Raises `FindingsError`, `LimitError`, `ConflictError` and `DeploymentFailedError`; see `azft.azureml.deployment`.
    """
    from azft.azureml.deployment import deploy as have

    found = _fresh(run, access)
    connection = connect_for(found, access)
    return have(
        connection, found, name=name, kind=kind, instance_type=instance_type, instances=instances, on_event=on_event
    )


def open_endpoint(name: str, *, access: Access | None = None) -> EndpointChat:
    """An endpoint of the workspace to talk to. Its key is asked for at each call, and kept nowhere."""
    from azft.azureml.inference import open_endpoint as find

    return find(access_of(access).connect(), name)


def inventory(what: str | None = None, *, access: Access | None = None) -> Whole:
    """What azft started in Azure (for a run, or by a thing's name) and that still exists, and which of it bills.

    Raises `NotFoundError` only for a name that nobody knows.
    """
    from azft.azureml.teardown import look, narrow

    return narrow(look(access_of(access)), what)


def down(
    what: str | Sequence[Item] | None = None, *, access: Access | None = None, on_event: OnEvent | None = None
) -> list[Outcome]:
    """End what azft started for a run (or an endpoint, by name), items of an inventory, or everything.

    Returns what became of each thing; never touches what azft did not start. Raises `NotFoundError` only for a name
    that nobody knows.
    """
    from azft.azureml.teardown import end_all

    items = inventory(what, access=access).items if what is None or isinstance(what, str) else what
    return end_all(access_of(access), items, on_event=on_event)


def _fresh(run: Run | str, access: Access | None) -> Run:
    """The run, its record brought up to date where it runs elsewhere."""
    found = run_of(run)
    if found.remote:
        mode_of(found, access).status(found)
    return found
