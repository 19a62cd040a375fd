"""The tags of everything that azft makes in Azure: it is found again, adopted and ended by them alone."""

from __future__ import annotations

import azft

TAG = "azft.plan"
"""Carries the plan's hash. A job carries it as a property too, which nobody can change."""
RUN_TAG = "azft.run"
MODEL_TAG = "azft.model"
"""Of a job: the name under which its result is registered. Of an endpoint: the model that it serves."""
KIND_TAG = "azft.kind"
"""How an endpoint serves: serverless, mlflow or vllm."""
TASK_TAG = "azft.task"
"""The task that an endpoint's model was tuned for: it decides how the model is asked."""
PROMPT_TAG = "azft.prompt"
"""The recipe's own prompt, as JSON, where it has one."""
LONGEST_TAG = 256
"""Characters that Azure takes as a tag's value."""
VERSION_TAG = "azft.version"


def labels(plan_hash: str, run: str) -> dict[str, str]:
    """The tags of what belongs to a run of a plan."""
    return {TAG: plan_hash, RUN_TAG: run, VERSION_TAG: azft.__version__}
