"""What only the account can tell of a plan: `azft plan --check-remote`. Reads, changes nothing, raises nothing.

Signed in as whom, workspace and region, the registry's newer facts, the cluster or the VM sizes, quota, roles, and what
of the uploads is there already. Each question is asked even when another had no answer; a refusal is a finding, too.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from azft.azureml import uploads
from azft.azureml.computes import check_compute
from azft.azureml.errors import MissingRoleError, ServiceUnavailableError, SignInError
from azft.azureml.patience import call
from azft.azureml.permissions import lacking
from azft.azureml.quota import Size, find_size, read_quota
from azft.azureml.registry_facts import RegistryFacts, read_facts
from azft.azureml.resources import Resource, Resources
from azft.errors import AzftError
from azft.findings import Finding, Severity, by_severity
from azft.plan import Plan, Target

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

_SCOPE = "https://management.azure.com/.default"
_WHO = ("upn", "preferred_username", "unique_name", "email", "app_displayname", "appid", "oid")
"""Claims of a token that name whose it is, the most telling first. Nothing else of a token is ever read."""


def check(connection: Connection, plan: Plan) -> list[Finding]:
    """Everything that the account says about a plan, as findings; errors stand in the way of submitting."""
    return _ask(connection, plan)[0]


def check_plan(connection: Connection, plan: Plan) -> Plan:
    """The plan with the account's findings among its own, and `there` filled in for each upload that was looked for.

    It is the same plan: neither is part of its hash.
    """
    findings, there = _ask(connection, plan)
    changes: dict[str, Any] = {"findings": tuple(by_severity([*plan.findings, *findings]))}
    if plan.target is not None:
        uploaded = tuple(upload.model_copy(update={"there": there.get(upload.name)}) for upload in plan.target.uploads)
        changes["target"] = plan.target.model_copy(update={"uploads": uploaded})
    return plan.model_copy(update=changes)


def _ask(connection: Connection, plan: Plan) -> tuple[list[Finding], dict[str, bool]]:
    if plan.target is None:
        message = "A plan for this machine has nothing to check in Azure."
        return [Finding("remote-local-plan", Severity.INFO, message, "Plan for Azure: --mode maas or maap")], {}
    asked = _Check(connection, plan.target)
    return by_severity(asked.all()), asked.there


def identity(token: str) -> str:
    """Whose token it is, from its claims: name or id, and tenant. Nothing of the token itself is in the text."""
    claims = _claims(token)
    who = next((str(claims[name]) for name in _WHO if claims.get(name)), "an identity that the token does not name")
    tenant = f" (tenant {claims['tid']})" if claims.get("tid") else ""
    return f"{who}{tenant}"


class _Check:
    def __init__(self, connection: Connection, target: Target) -> None:
        self.connection = connection
        self.target = target
        self.there: dict[str, bool] = {}
        self.resources = Resources(connection)
        self.location = ""

    def all(self) -> Iterator[Finding]:
        """Each question in turn. Without a sign-in or a workspace the others can't be asked."""
        signed_in = list(self._asked("sign-in", self._identity))
        yield from signed_in
        if any(finding.severity is Severity.ERROR for finding in signed_in):
            return
        workspace = list(self._asked("workspace", self._workspace))
        yield from workspace
        if not self.location:
            return
        yield from self._asked("roles", self._roles)
        yield from self._asked("model", self._model)
        yield from self._asked("compute", self._machines)
        yield from self._asked("uploads", self._uploads)

    def _asked(self, what: str, question: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """The question's findings, with a refusal or an outage as one of them."""
        try:
            yield from question()
        except (MissingRoleError, SignInError) as error:
            kind = "role" if isinstance(error, MissingRoleError) else "sign-in"
            yield Finding(f"remote-{kind}", Severity.ERROR, error.message, error.fix)
        except ServiceUnavailableError as error:
            yield Finding("remote-unavailable", Severity.WARNING, f"Not checked ({what}): {error.message}", error.fix)
        except AzftError as error:
            yield Finding(f"remote-{what}", Severity.ERROR, error.message, error.fix)

    def _identity(self) -> Iterator[Finding]:
        token = call("Signing in", lambda: self.connection.credential.get_token(_SCOPE))
        message = f"Signed in as {identity(str(token.token))}."
        yield Finding("remote-identity", Severity.INFO, message)

    def _workspace(self) -> Iterator[Finding]:
        found = self.resources.workspace()
        place = self.connection.workspace
        self.location = str(found.get("location") or "")
        yield Finding(
            "remote-workspace",
            Severity.INFO,
            f"Workspace {place.name} in resource group {place.resource_group}, region {self.location}; found by "
            f"{place.found_by}.",
        )
        wanted = self.target.region
        if wanted is not None and wanted.casefold() != self.location.casefold():
            yield Finding(
                "remote-region",
                Severity.ERROR,
                f"The recipe says region {wanted}, and the workspace is in {self.location}.",
                "Use a workspace there (--workspace), or change modes.maas.region.",
            )

    def _roles(self) -> Iterator[Finding]:
        """What the plan needs and the roles don't give. A role may still be missing elsewhere, as on the storage."""
        permissions = self.resources.permissions()
        if permissions is None:
            message = "Which roles the identity has in the workspace could not be asked."
            yield Finding("remote-roles-unknown", Severity.INFO, message)
            return
        missing = list(lacking(self.target, permissions))
        for action, purpose in missing:
            message = f"The identity may not {purpose} in the workspace ({action})."
            fix = "Ask an owner for `AzureML Data Scientist`, `Azure AI Developer` or Contributor on the workspace."
            yield Finding("remote-role", Severity.ERROR, message, fix)
        if not missing:
            yield Finding("remote-roles", Severity.INFO, "The identity's roles in the workspace suffice for the plan.")

    def _model(self) -> Iterator[Finding]:
        facts = read_facts(self.connection, self.target.model_id)
        if facts is None:
            return
        yield Finding(
            "remote-model",
            Severity.INFO,
            f"{facts.name} is version {facts.version} in the registry {facts.registry}.",
        )
        for tag in facts.unreadable:
            yield Finding(
                "remote-model-tag", Severity.WARNING, f"The registry's tag {tag} of {facts.name} can't be read."
            )
        if self.target.service == "serverless-finetuning":
            yield from self._regions(facts)
        else:
            yield from self._allow_list(facts)
        yield from self._defaults(facts)

    def _regions(self, facts: RegistryFacts) -> Iterator[Finding]:
        """The registry's own list of regions, which overrides azft's dated table."""
        if facts.regions is None:
            yield Finding(
                "remote-model-regions",
                Severity.INFO,
                f"The registry does not say where {facts.name} can be tuned serverless; azft's table stands.",
            )
        elif self.location.casefold() in {_region(region) for region in facts.regions}:
            message = f"The registry lists {self.location} for serverless fine-tuning of {facts.name}."
            yield Finding("remote-model-regions", Severity.INFO, message)
        else:
            yield Finding(
                "remote-model-region",
                Severity.ERROR,
                f"{self.location} does not offer serverless fine-tuning of {facts.name}; the registry lists "
                f"{', '.join(facts.regions) or 'no region'}.",
                "Use a workspace in one of them, or --mode maap.",
            )

    def _allow_list(self, facts: RegistryFacts) -> Iterator[Finding]:
        """The registry's own list of sizes. It binds the service's pipelines; azft's own is free of it."""
        if facts.allow_list is None:
            return
        allowed = {size.casefold() for size in facts.allow_list}
        asked = self.target.instance_types or ((self.target.vm_size,) if self.target.vm_size else ())
        wrong = [size for size in asked if size.casefold() not in allowed]
        if not wrong:
            return
        own = self.target.service == "pipeline"
        yield Finding(
            "remote-model-size",
            Severity.WARNING if own else Severity.ERROR,
            f"The registry lists {', '.join(facts.allow_list)} for tuning {facts.name}, not {', '.join(wrong)}.",
            "azft's own pipeline is not bound by it." if own else "Take one of them: modes.maap.instance_types.",
        )

    def _defaults(self, facts: RegistryFacts) -> Iterator[Finding]:
        """The registry's values beside the plan's, wherever they differ. The plan's win, and nothing is taken over."""
        told = {**self.target.hyperparameters, **self.target.parameters}
        for name, value in facts.defaults.items():
            if name in told and str(told[name]).casefold() != str(value).casefold():
                message = f"{name}: the plan says {told[name]}, the registry's own default for {facts.name} is {value}."
                yield Finding("remote-model-default", Severity.INFO, message, "The plan's value is used.")
            elif name not in told and self.target.service != "pipeline":
                message = f"{name}: the plan says nothing, the registry's own default for {facts.name} is {value}."
                yield Finding("remote-model-default", Severity.INFO, message, "azft does not take it over.")

    def _machines(self) -> Iterator[Finding]:
        target = self.target
        if target.service == "serverless-finetuning":
            return
        if target.compute is not None:
            compute = self.resources.get("compute", target.compute)
            if compute is None:
                message = f"The workspace has no compute {target.compute}."
                fix = "Let azft make it: azft submit --create-compute; or name another in modes.maap.compute."
                yield Finding("remote-compute-missing", Severity.ERROR, message, fix)
                if target.vm_size is not None:
                    yield from self._quota(target.vm_size)
                return
            yield from check_compute(compute, target)
            yield from self._cluster(compute)
        for size in target.instance_types if target.compute is None else ():
            yield from self._quota(size)

    def _cluster(self, compute: Resource) -> Iterator[Finding]:
        inner = compute.properties.get("properties") or {}
        up = int(inner.get("currentNodeCount") or 0)
        size = str(inner.get("vmSize") or "")
        message = f"The cluster {compute.name} has {up} of at most "
        message += f"{(inner.get('scaleSettings') or {}).get('maxNodeCount', '?')} x {size} up."
        yield Finding("remote-compute", Severity.INFO, message)
        if up < self.target.nodes:  # nodes that are up hold their quota already
            yield from self._quota(size, count=self.target.nodes - up)

    def _quota(self, name: str, count: int | None = None) -> Iterator[Finding]:
        size = find_size(self.resources, self.location, name)
        if size is None:
            message = f"The region {self.location} has no VM size {name}."
            yield Finding("remote-size", Severity.ERROR, message, "Take another size, or a workspace elsewhere.")
            return
        yield from self._gpus(size)
        low = self.target.tier == "low-priority"
        quota = read_quota(self.resources, self.location, size, count or self.target.nodes, low_priority=low)
        if quota.short:
            fix = "Ask for more (Azure portal, Quotas), or take another size, region or tier."
            yield Finding("remote-quota", Severity.ERROR, f"Not enough quota in {self.location}: {quota.words}.", fix)
        else:
            yield Finding("remote-quota", Severity.INFO, f"Quota in {self.location}: {quota.words}.")

    def _gpus(self, size: Size) -> Iterator[Finding]:
        if size.gpus < self.target.gpus_per_node:
            message = (
                f"{size.name} has {size.gpus} GPUs; the plan starts {self.target.gpus_per_node} ranks on each node."
            )
            fix = f"Set modes.maap.gpus_per_node: {size.gpus}." if size.gpus else "Take a size with GPUs."
            yield Finding("remote-gpus", Severity.ERROR, message, fix)

    def _uploads(self) -> Iterator[Finding]:
        for upload in self.target.uploads:
            there = self.there[upload.name] = uploads.is_there(self.connection, upload)
            state = "there already" if there else f"not there; {upload.bytes:,} bytes will be sent"
            yield Finding("remote-upload", Severity.INFO, f"{upload.kind} {upload.name}: {state}.")


def _region(text: str) -> str:
    """`East US 2` and `eastus2` are the same place."""
    return text.replace(" ", "").casefold()


def _claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}
