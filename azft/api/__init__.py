"""The Python API: everything the command line can do, as functions. `azft.<name>` loads them on first use.

    import azft
    recipe = azft.load_recipe("recipe.yaml")
    print(azft.check(recipe).findings)
    run = azft.submit(recipe, mode="local")
    print(run.outputs()["packaged"])

Nothing prints or asks here. Whatever a person should read is in the returned value or in the `AzftError` raised.
"""

from __future__ import annotations

from azft.api.planning import (
    RecipeLike,
    check,
    check_remote,
    convert,
    doctor,
    export_azureml,
    get_model,
    init,
    load_plan,
    models,
    payload,
    plan,
    plan_from_azureml,
    preview,
    schema,
)
from azft.api.running import (
    OnEvent,
    cancel,
    download,
    follow_logs,
    get_run,
    refresh,
    remote_outputs,
    remote_runs,
    resume,
    reused_steps,
    runs,
    submit,
    summarize,
)
from azft.api.serving import (
    deploy,
    down,
    inventory,
    open_chat,
    open_endpoint,
    register,
)

__all__ = [
    "OnEvent",
    "RecipeLike",
    "cancel",
    "check",
    "check_remote",
    "convert",
    "deploy",
    "doctor",
    "down",
    "download",
    "export_azureml",
    "follow_logs",
    "get_model",
    "get_run",
    "init",
    "inventory",
    "load_plan",
    "models",
    "open_chat",
    "open_endpoint",
    "payload",
    "plan",
    "plan_from_azureml",
    "preview",
    "refresh",
    "register",
    "remote_outputs",
    "remote_runs",
    "resume",
    "reused_steps",
    "runs",
    "schema",
    "submit",
    "summarize",
]
