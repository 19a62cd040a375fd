"""Submits a job file as somebody would who has never heard of azft: with azure-ai-ml alone, in the job's folder.

    python sdk_submit.py JOB.yml

Prints the job's name, and waits for nothing. `az ml job create --file` does the same.
"""

from __future__ import annotations

import os
import sys

from azure.ai.ml import MLClient, load_job
from azure.ai.ml.constants import _common
from azure.identity import DefaultAzureCredential

address = os.environ["AZFT_AZURE_ENDPOINT"]
_common.STORAGE_ACCOUNT_URLS["AzureBlob"] = f"{address}/{{}}"  # the one address that the SDK has no setting for
client = MLClient(
    DefaultAzureCredential(),
    subscription_id=os.environ["AZURE_SUBSCRIPTION_ID"],
    resource_group_name=os.environ["AZURE_RESOURCE_GROUP"],
    workspace_name=os.environ["AZUREML_WORKSPACE_NAME"],
    cloud="loopback",
    cloud_metadata={
        "azure_portal": address,
        "resource_manager": f"{address}/",
        "active_directory": f"{address}/",
        "aml_resource_id": "https://ml.azure.com/",
        "storage_endpoint": "core.windows.net",
        "registry_discovery_endpoint": f"{address}/",
    },
    enable_telemetry=False,
    show_progress=False,
)
job = client.jobs.create_or_update(load_job(sys.argv[1]))
sys.stdout.write(f"{job.name}\n")
