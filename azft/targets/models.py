"""Which model Azure is given, and what is in the way: not offered, retired, in another region, to be bought first."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from azft.catalog import Located, ModelRow, load_catalog
from azft.findings import Finding, Severity
from azft.recipe_errors import closest
from azft.recipe_file import RecipeFile
from azft.targets.table import finding, is_set

_MODEL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")
ModelType = Literal["mlflow_model", "custom_model"]


@dataclass(frozen=True)
class GivenModel:
    """How the job names the model."""

    id: str
    """azureml://..., or a hub id for the system pipeline; for a folder the id of the asset that it will be."""
    type: ModelType = "mlflow_model"
    folder: Path | None = None
    """The folder to upload."""
    hub: bool = False
    """`id` is the hub's."""


def give_model(located: Located, *, service: str) -> GivenModel | None:
    """What Azure is given for the recipe's model; None when there is nothing that it could be given."""
    row = located.row
    if located.folder is not None:
        return None if located.problems else GivenModel("", "custom_model", located.folder)
    if located.azureml_id is not None:
        return GivenModel(located.azureml_id, row.azure.type if row and row.azure else "mlflow_model")
    if row is not None and row.registry_id is not None and row.azure is not None:
        return GivenModel(row.registry_id, row.azure.type)
    if service == "system-pipeline" and located.hub_id is not None:
        return GivenModel(located.hub_id, hub=True)
    if service == "pipeline" and located.cached is not None:
        return GivenModel("", "custom_model", located.cached)
    return None


def model_findings(
    recipe_file: RecipeFile, located: Located, given: GivenModel | None, *, service: str
) -> Iterator[Finding]:
    """Everything that the dated catalog has to say about this model on this service."""
    for what, fix in located.problems:
        message = f"The model folder {located.folder} can't be used: {what}."
        yield finding(recipe_file, "model", "model-unusable", Severity.ERROR, message, fix)
    if service == "serverless-finetuning":
        yield from _serverless(recipe_file, located)
    elif given is None and not located.problems:
        yield _nothing_to_give(recipe_file, located, service)
    elif given is not None:
        yield from _on_machines(recipe_file, located, given, service)
    yield from _rights(recipe_file, located, service)
    if given is not None and given.id.endswith("/labels/latest"):
        message = (
            f"`{located.name}` is the registry's newest version; submitting asks which that is, and the job names it."
        )
        fix = f"To fix one: model: {given.id.removesuffix('/labels/latest')}/versions/<version>"
        yield finding(recipe_file, "model", "model-moves", Severity.INFO, message, fix)


def _nothing_to_give(recipe_file: RecipeFile, located: Located, service: str) -> Finding:
    message = f"No registry of Azure's that azft knows holds `{located.name}`, and its weights are not on this machine."
    if service == "pipeline":
        get = f"Get them, and they are uploaded: azft models get {located.row.name if located.row else located.hub_id}"
        fix = f"{get}\nOr name a registry's model: azureml://registries/<registry>/models/<name>/labels/latest"
    else:
        message = f"No registry of Azure's that azft knows holds `{located.name}`, and this kind of job takes no other."
        fix = "modes.maap.pipeline: azft or system takes models of the hub."
    return finding(recipe_file, "model", "model-not-in-registry", Severity.ERROR, message, fix)


def _on_machines(recipe_file: RecipeFile, located: Located, given: GivenModel, service: str) -> Iterator[Finding]:
    if given.folder is not None and service == "finetuning-job":
        message = "A fine-tuning job names every model as an MLflow model; whether it takes a folder is not documented."
        fix = "modes.maap.pipeline: azft takes it."
        yield finding(recipe_file, "model", "model-kind", Severity.WARNING, message, fix)
    if located.folder is None and given.folder is not None:
        message = (
            f"No registry of Azure's holds `{located.name}`: the copy on this machine is uploaded ({given.folder})."
        )
        yield finding(recipe_file, "model", "model-uploaded", Severity.INFO, message)
    if located.azureml_id is not None and located.row is None:
        message = f"azft's catalog has no row for `{located.name}`: its licence, kind and template are not checked."
        yield finding(recipe_file, "model", "model-not-catalogued", Severity.INFO, message)
    revision = recipe_file.recipe.model_revision
    if revision is not None and given.folder is None and service == "pipeline":
        message = (
            f"`model_revision: {revision}` has no effect: it names a revision of the hub, and Azure's registry is used."
        )
        fix = "Name the registry's version: model: azureml://registries/<registry>/models/<name>/versions/<version>"
        yield finding(recipe_file, "model_revision", "not-offered", Severity.WARNING, message, fix)
    row = located.row
    retired = row.azure.maas.retired if row and row.azure and row.azure.maas else None
    if row is not None and retired is not None and given.folder is None and not given.hub:
        message = (
            f"Azure's serverless fine-tuning retired {row.name} on {retired}; its weights in the registry should stay "
            "usable on machines of your own, which nothing promises."
        )
        yield finding(recipe_file, "model", "model-retired-elsewhere", Severity.INFO, message)


def _serverless(recipe_file: RecipeFile, located: Located) -> Iterator[Finding]:
    row = located.row
    if row is None and located.azureml_id is not None:
        message = (
            f"azft's catalog has no row for `{located.name}`: whether serverless fine-tuning offers it is not known."
        )
        yield finding(recipe_file, "model", "model-not-catalogued", Severity.WARNING, message)
        return
    maas = row.azure.maas if row and row.azure else None
    if row is None or row.azure is None or maas is None or located.folder is not None:
        message = f"Serverless fine-tuning does not offer `{located.name}`."
        fix = f"It offers {', '.join(sorted(_offered()))}. On machines of your own: --mode maap"
        yield finding(recipe_file, "model", "model-not-offered", Severity.ERROR, message, fix)
        return
    if maas.retired is not None and maas.retired <= datetime.date.today():
        message = f"Serverless fine-tuning retired {row.name} on {maas.retired} ({row.azure.source})."
        fix = f"Take its successor: model: {maas.successor}. Or machines of your own: --mode maap"
        yield finding(recipe_file, "model", "model-retired", Severity.ERROR, message, fix)
    else:
        yield from _region(recipe_file, row, maas.regions)


def _region(recipe_file: RecipeFile, row: ModelRow, regions: tuple[str, ...]) -> Iterator[Finding]:
    region = recipe_file.recipe.modes.maas.region
    path = "modes.maas.region"
    where = f"{', '.join(regions)} ({row.azure.source if row.azure else row.source})"
    if region is None:
        message = f"Serverless fine-tuning offers {row.name} in {where}; the workspace must be in one of them."
        yield finding(recipe_file, path, "region-open", Severity.INFO, message, f"Say modes.maas.region: {regions[0]}")
        return
    plain = region_name(region)
    if plain in regions:
        return
    if plain not in _regions():
        fix = closest(plain, sorted(_regions())) or f"It offers {row.name} in {', '.join(regions)}."
        message = f"azft's catalog knows no region `{region}` with serverless fine-tuning."
        yield finding(recipe_file, path, "region-unknown", Severity.ERROR, message, fix)
        return
    message = f"Serverless fine-tuning does not offer {row.name} in {region}, only in {where}."
    fix = f"Take a workspace in {regions[0]}, and say modes.maas.region: {regions[0]}"
    yield finding(recipe_file, path, "region-without-model", Severity.ERROR, message, fix)


def _rights(recipe_file: RecipeFile, located: Located, service: str) -> Iterator[Finding]:
    row = located.row
    if row is None or located.folder is not None:
        return
    if needs_marketplace(row, service) and row.azure is not None:
        message = (
            f"{row.name} is {row.azure.provider}'s: it is bought through Azure's marketplace, whose terms hold for it."
        )
        fix = "azft submit makes the subscription; the account needs the right to buy in the marketplace."
        yield finding(recipe_file, "model", "marketplace", Severity.INFO, message, fix)
    if row.licence is not None and row.licence not in ("MIT", "Apache-2.0"):
        message = f"{row.name} has a licence of its own: {row.licence}."
        yield finding(recipe_file, "model", "licence", Severity.INFO, message, "Read it before you use the result.")


def needs_marketplace(row: ModelRow | None, service: str) -> bool:
    """Whether a marketplace subscription comes before the job."""
    if row is None or row.azure is None or service != "serverless-finetuning":
        return False
    return not row.azure.is_microsofts


def region_name(region: str) -> str:
    """A region as Azure writes it in ids: `East US 2` is eastus2."""
    return region.replace(" ", "").casefold()


def result_findings(recipe_file: RecipeFile) -> Iterator[Finding]:
    """Whether the result's name is one that Azure takes."""
    name = recipe_file.recipe.model_name
    if not _MODEL_NAME.match(name):
        message = f"Azure takes no model called `{name}`: letters, digits, -, _ and . it may have, 255 at most."
        fix = "Say another: output.model_name"
        yield finding(recipe_file, "output.model_name", "model-name", Severity.ERROR, message, fix)


def route_findings(recipe_file: RecipeFile) -> Iterator[Finding]:
    """What `modes.maas.route` can't do yet."""
    if is_set(recipe_file.recipe, "modes.maas.route"):
        message = "This version knows one serverless route, Azure Machine Learning's; `route` changes nothing yet."
        yield finding(recipe_file, "modes.maas.route", "one-route", Severity.INFO, message)


def _offered() -> list[str]:
    rows = load_catalog().models
    return [row.name for row in rows if row.azure and row.azure.maas and row.azure.maas.regions]


def _regions() -> set[str]:
    return {
        region for row in load_catalog().models if row.azure and row.azure.maas for region in row.azure.maas.regions
    }
