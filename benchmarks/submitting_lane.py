"""One lane of benchmarks/submitting.py: submit a job to whatever the environment calls Azure, in a process of its own.

    python benchmarks/submitting_lane.py sdk plan.json CODE PARAMETERS NAME     the SDK, used plainly
    python benchmarks/submitting_lane.py sdk-command CODE NAME                  the SDK, one command job
    python benchmarks/submitting_lane.py azure-jobs CODE NAME                   the package azure-jobs, the same job

azft's own lane is `azft submit` itself. Prints {"seconds"}: from after the imports to the answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def sdk(plan_file: str, code: str, parameters: str, name: str) -> float:
    """The same pipeline from the same folders, by `create_or_update` with local paths, as the SDK's samples do."""
    from azft.azureml.connection import connect
    from azft.pipeline import Placement, build_pipeline, quiet_sdk
    from azft.plan import Plan

    plan = Plan.from_json(Path(plan_file).read_bytes())
    assert plan.target is not None
    start = time.perf_counter()
    client = connect().client
    with quiet_sdk():
        job = build_pipeline(
            plan,
            code=Path(code),
            parameters=Path(parameters),
            model=plan.target.model_id,
            name=name,
            placement=Placement(compute=str(plan.target.compute), model_type=plan.target.model_type),
        )
        client.jobs.create_or_update(job)
    return time.perf_counter() - start


COMMAND = "python finetune/main.py"
IMAGE = "azft-train:1"


def sdk_command(code: str, name: str) -> float:
    """One command job with the code folder, on an image, by `create_or_update`: what azure-jobs sends too."""
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment

    from azft.azureml.connection import connect
    from azft.pipeline import quiet_sdk

    start = time.perf_counter()
    client = connect().client
    with quiet_sdk():
        job = command(name=name, code=code, command=COMMAND, environment=Environment(image=IMAGE), compute="gpu")
        client.jobs.create_or_update(job)
    return time.perf_counter() - start


def azure_jobs(code: str, name: str) -> float:
    """The same command job. The package's addresses are constants, so they are set to the emulator's here.

    The emulator's blob host is a path and not a name; so the signature of a shared key is computed over that path, as
    the service documents it for such hosts. Else every storage request would be refused once, and counted twice.
    """
    from azure.identity import ManagedIdentityCredential
    from azure_jobs.server.az_client import auth

    auth.MGMT = os.environ["AZFT_AZURE_ENDPOINT"]
    credential = ManagedIdentityCredential()

    def fetch_token(scope: str) -> tuple[str, float]:
        token = credential.get_token(scope)
        return token.token, float(token.expires_on)

    auth.fetch_token = fetch_token
    from azure_jobs.server.az_client.ml import blob, context

    blob.fetch_token = context.fetch_token = fetch_token
    blob.MGMT = auth.MGMT  # the module has a copy, with which it would ask Azure itself
    resolve_storage = blob.BlobAPI._ensure_default_storage

    def on_loopback(self: Any) -> Any:
        storage = resolve_storage(self)
        storage.account_url = f"{os.environ['AZFT_AZURE_ENDPOINT']}/{storage.account_name}"
        storage.container = "azureml-blobstore"
        return storage

    sign = blob.BlobAPI._sign_shared_key

    def sign_on_loopback(method: str, url: str, *arguments: Any, **options: Any) -> None:
        path = url.removeprefix(os.environ["AZFT_AZURE_ENDPOINT"])
        account = path.split("/")[1]
        sign(method, f"https://{account}.blob.core.windows.net{path}", *arguments, **options)

    blob.BlobAPI._ensure_default_storage = on_loopback
    blob.BlobAPI._sign_shared_key = staticmethod(sign_on_loopback)
    from azure_jobs.server.submit.azureml import entry
    from azure_jobs.shared.job.spec import JobSpec
    from azure_jobs.shared.opts import AmlOpts

    aml = AmlOpts(
        compute="gpu",
        subscription_id=os.environ["AZURE_SUBSCRIPTION_ID"],
        resource_group=os.environ["AZURE_RESOURCE_GROUP"],
        workspace_name=os.environ["AZUREML_WORKSPACE_NAME"],
    )
    entry.resolve_target = lambda *_, **__: SimpleNamespace(
        aml=aml, vc=None, matched_instances=None, auto_selected=False, available_capacity=0, requested_tier=""
    )
    request = JobSpec(name=name, image=IMAGE, code_dir=code, command=[COMMAND], backend_spec=aml)
    start = time.perf_counter()
    result = entry.submit(request)
    seconds = time.perf_counter() - start
    if result.status != "submitted":
        raise SystemExit(f"azure-jobs: {result.error}")
    return seconds


if __name__ == "__main__":
    lane, *arguments = sys.argv[1:]
    print(json.dumps({"seconds": {"sdk": sdk, "sdk-command": sdk_command, "azure-jobs": azure_jobs}[lane](*arguments)}))
