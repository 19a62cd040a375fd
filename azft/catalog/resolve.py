"""From what a recipe calls its model to weights on this machine: a folder, a cached copy, or a stand-in.

Nothing is downloaded here (`azft models get` does that) and nothing is loaded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from azft.catalog.cache import hub_folder, model_folder, stand_in_folder
from azft.catalog.folder import Problem, cached_sha256, folder_identity, problems_of, read_config
from azft.catalog.rows import ModelRow, azureml_model_name, closest, find, load_catalog
from azft.data.model_folder import has_model, positions_of
from azft.data.picture_model import PIPELINE_CLASS
from azft.errors import ExitCode, FindingsError, NotFoundError
from azft.findings import Finding, Severity
from azft.recipe_file import RecipeFile
from azft.tasks import TASKS
from azft.techniques import LowRank
from azft.training.stand_in import StandInSpec, make
from azft.training.stand_in_architectures import ARCHITECTURES

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_DEFAULT_ARCHITECTURE = "LlamaForCausalLM"
_DEFAULT_FAMILY = "chatml"


class ModelNotFoundError(FindingsError):
    """The recipe's model is not on this machine, and the recipe wants no stand-in."""

    exit_code = ExitCode.NOT_FOUND


class ModelNameError(FindingsError):
    """The recipe's model is no name that azft can make sense of."""

    exit_code = ExitCode.USAGE


class ResolvedModel(BaseModel):
    """Which weights a plan uses. JSON round trip; equal `identity` means equal contents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["folder", "cached", "stand-in", "registry"]
    name: str
    """What the recipe calls it."""
    path: Path | None = None
    """The model folder; None for a stand-in, which `materialize` makes, and for a model of an Azure registry."""
    spec: StandInSpec | None = None
    identity: str
    """Hex SHA-256 of the contents (folder, cached), of the spec (stand-in) or of the id (registry)."""
    description: str
    """One line for a person."""
    context_length: int | None = None
    """Most tokens of a sequence, where known."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Request:
    """The recipe's words about its model, and what they turned out to name."""

    recipe_file: RecipeFile
    name: str
    folder: Path | None
    row: ModelRow | None
    hub_id: str | None
    azureml_name: str | None

    def finding(self, code: str, severity: Severity, message: str, fix: str = "") -> Finding:
        line = self.recipe_file.line_of("model")
        return Finding(f"model-{code}", severity, message, fix, str(self.recipe_file.path), line)

    @property
    def chats(self) -> bool:
        """Whether the task needs a chat template."""
        return TASKS[self.recipe_file.recipe.task].needs_chat_template

    @property
    def how_to_get(self) -> str:
        """The exact command that brings the real weights."""
        if self.row and (self.row.hub_id or self.row.package):
            return f"azft models get {self.row.name}"
        if self.azureml_name:
            registry = re.match(r"^azureml://registries/([^/]+)/", self.name)
            version = re.search(r"/versions/([^/]+)$", self.name)
            where = f" --registry-name {registry.group(1)}" if registry else ""
            which = f" --version {version.group(1)}" if version else " --label latest"
            download = f"az ml model download --name {self.azureml_name}{which}{where} --download-path models"
            return f"{download}   (then name the folder in the recipe)"
        return f"azft models get {self.hub_id}" if self.hub_id else "name a folder that holds them"


def resolve_model(recipe_file: RecipeFile) -> ResolvedModel:
    """Find the weights that local mode uses for a recipe, as its `modes.local.weights` says.

    Raises `ModelNameError` for a name that means nothing, `ModelNotFoundError` when the real weights are asked for and
    absent, and `FindingsError` for a folder that can't be used; each carries its findings, with the recipe's line.
    """
    recipe = recipe_file.recipe
    request = _understand(recipe_file)
    weights = recipe.modes.local.weights
    if weights == "stand-in":
        return _stand_in(request, wanted=True)
    if request.folder is not None:
        return _folder(request, request.folder)
    broken: list[str] = []
    for path in _cached(request):
        if problems := problems_of(path, chat=request.chats):
            broken += [f"{path}: {what}" for what, _ in problems]
            continue
        return ResolvedModel(
            kind="cached",
            name=request.name,
            path=path,
            identity=folder_identity(path),
            description=f"{request.name}, from {path}",
            context_length=_context_length(path),
        )
    if weights == "auto":
        return _stand_in(request, wanted=False, broken=broken)
    what = f"The weights of `{request.name}` are not on this machine"
    because = f" (unusable: {'; '.join(broken)})" if broken else ""
    finding = request.finding("absent", Severity.ERROR, f"{what}{because}.", f"Get them: {request.how_to_get}")
    raise ModelNotFoundError(f"{what}.", [finding], fix=finding.fix)


@dataclass(frozen=True)
class Located:
    """What a recipe's model is, whatever the mode: a folder of the user's, a row, an id, and a good copy here."""

    name: str
    row: ModelRow | None
    hub_id: str | None
    azureml_id: str | None
    """As the recipe gives it."""
    folder: Path | None
    """The recipe names a folder."""
    cached: Path | None
    """A whole copy of the hub's model on this machine."""
    problems: tuple[Problem, ...]
    """What is wrong with the folder."""


def locate_model(recipe_file: RecipeFile) -> Located:
    """What the recipe's model is, for those who don't run it here. Raises `ModelNameError` for a name without sense."""
    request = _understand(recipe_file)
    problems: list[Problem] = []
    if request.folder is not None:
        missing = [(f"there is no folder {request.folder}", "Name the folder that holds config.json.")]
        problems = problems_of(request.folder, chat=request.chats) if request.folder.is_dir() else missing
    whole = (
        (path for path in _cached(request) if not problems_of(path, chat=request.chats))
        if request.folder is None
        else iter(())
    )
    return Located(
        name=request.name,
        row=request.row,
        hub_id=request.hub_id,
        azureml_id=request.name if request.azureml_name else None,
        folder=request.folder,
        cached=next(whole, None),
        problems=tuple(problems),
    )


def materialize(resolved: ResolvedModel) -> Path:
    """The folder with the model's files; makes the stand-in first where it isn't there yet (half a second)."""
    if resolved.spec is None:
        assert resolved.path is not None  # resolve_model gives one or the other
        return resolved.path
    folder = stand_in_folder(resolved.spec.identity)
    if not has_model(folder):
        if not resolved.spec.data.is_file():
            raise NotFoundError(f"The stand-in's tokenizer is trained on {resolved.spec.data}, which is not there.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not has_model(folder):
                make(resolved.spec, folder)
    return folder


def _understand(recipe_file: RecipeFile) -> _Request:
    """A folder where the text is written as a path or leads to one, else a name."""
    name = recipe_file.recipe.model
    azureml_name = azureml_model_name(name)
    row = find(name)
    folder: Path | None = None
    # Text that can't be a path at all (a NUL, an unknown ~user, too long) raises, and so is a name or nothing.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = recipe_file.resolve(Path(name).expanduser())
        written_as_path = name.startswith((".", "/", "~")) or "\\" in name or Path(name).is_absolute()
        leads_to_one = has_model(path) or (row is None and path.is_dir())
        if not name.startswith("azureml:") and (written_as_path or leads_to_one):
            folder = path
    hub_id = row.hub_id if row else (name if HUB_ID.match(name) else None)
    request = _Request(recipe_file, name, folder, row, hub_id, azureml_name)
    if folder is None and row is None and hub_id is None and azureml_name is None:
        near = closest(name)
        if name.startswith("azureml:"):
            fix = "Write azureml://registries/<registry>/models/<name>/versions/<version>."
        elif near:
            fix = f"Did you mean `{near}`?"
        else:
            fix = "Give a folder, a hub id (owner/name), or a name that `azft models list` shows."
        message = f"No model is called `{name}`, and there is no such folder."
        finding = request.finding("unknown", Severity.ERROR, message, fix)
        raise ModelNameError(finding.message, [finding], fix=fix)
    return request


def _folder(request: _Request, path: Path) -> ResolvedModel:
    if not path.is_dir():
        what = f"{path} is a file, not a model folder" if path.exists() else f"The model folder {path} does not exist"
        finding = request.finding("absent", Severity.ERROR, f"{what}.", "Name the folder that holds config.json.")
        raise ModelNotFoundError(finding.message, [finding], fix=finding.fix)
    problems: list[Problem] = problems_of(path, chat=request.chats)
    if problems:
        findings = [
            request.finding("unusable", Severity.ERROR, f"The model folder {path} can't be used: {what}.", fix)
            for what, fix in problems
        ]
        raise FindingsError(f"The model folder {path} can't be used.", findings, fix=findings[0].fix)
    return ResolvedModel(
        kind="folder",
        name=request.name,
        path=path,
        identity=folder_identity(path),
        description=f"the folder {path}",
        context_length=_context_length(path),
    )


def _cached(request: _Request) -> list[Path]:
    """Folders that may hold the model, best first. A revision that the recipe names is the hub's, so only there."""
    revision = request.recipe_file.recipe.model_revision
    own = model_folder(request.row.name if request.row else request.name)
    folders = [own] if revision is None and own.is_dir() else []
    if request.hub_id:
        hub = hub_folder(request.hub_id, revision or (request.row.revision if request.row else None))
        folders += [hub] if hub else []
    return folders


def _stand_in(request: _Request, *, wanted: bool, broken: list[str] | None = None) -> ResolvedModel:
    """A stand-in of the model's architecture: the row's, else the folder's, else Llama's (and says so)."""
    catalog, row, recipe_file = load_catalog(), request.row, request.recipe_file
    config = read_config(request.folder) if request.folder else {}
    named = row.architecture if row else next(iter(config.get("architectures") or []), None)
    if TASKS[recipe_file.recipe.task].rendering is None:  # no model of words can do it
        named = named if named in ARCHITECTURES and ARCHITECTURES[named].paints else PIPELINE_CLASS
    architecture = named if named in ARCHITECTURES else _DEFAULT_ARCHITECTURE
    family = catalog.families[row.family if row else _DEFAULT_FAMILY]
    context_length = (row.context_length if row else positions_of(config)) or 4096
    data = recipe_file.resolve(recipe_file.recipe.data.train)
    spec = StandInSpec(
        architecture=architecture,
        chat_template=family.chat_template,
        special_tokens=family.special_tokens,
        data=data,
        data_sha256=cached_sha256(data) if data.is_file() else "",
        context_length=context_length,
    )
    shape = f"the architecture of {request.name} ({architecture}), made tiny"
    if architecture != named:
        shape = f"a tiny {architecture}, since the architecture of {request.name} is {named or 'not known here'}"
    proves = "Its weights are random: it proves the pipeline, not the quality"
    if wanted:
        severity, message, fix = Severity.INFO, f"A stand-in takes the model's place: {shape}. {proves}.", ""
    else:
        severity = Severity.WARNING
        absent = f"The weights of `{request.name}` are not on this machine"
        message = f"{absent}, so a stand-in takes their place: {shape}. {proves}."
        if broken:
            message += f" (Unusable here: {'; '.join(broken)}.)"
        fix = f"For the real model: {request.how_to_get}. To run on stand-ins on purpose: modes.local.weights: stand-in"
    return ResolvedModel(
        kind="stand-in",
        name=request.name,
        spec=spec,
        identity=spec.identity,
        description=f"a stand-in: {shape}, random weights",
        context_length=context_length,
        findings=(request.finding("stand-in", severity, message, fix), *_fewer_layers(recipe_file, spec.layers)),
    )


def _fewer_layers(recipe_file: RecipeFile, layers: int) -> Iterator[Finding]:
    """Said where the technique names layers that a stand-in has not: its last one takes their place."""
    technique = recipe_file.recipe.technique
    named = technique.layers if isinstance(technique, LowRank) else []
    beyond = [number for number in named if number >= layers]
    if beyond:
        yield Finding(
            "model-stand-in-layers",
            Severity.INFO,
            f"The stand-in has {layers} layers, so its last one (number {layers - 1}) is adapted in place of "
            f"{', '.join(map(str, beyond))}. The model itself is held to the numbers.",
            file=str(recipe_file.path),
            line=recipe_file.line_of("technique", "layers"),
        )


def _context_length(folder: Path) -> int | None:
    return positions_of(read_config(folder))
