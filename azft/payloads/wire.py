"""The JSON that the SDK sends for a job, without sending it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from azft.pipeline import quiet_sdk

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job


def to_wire(job: Job) -> dict[str, Any]:
    """The body of the PUT. A pipeline's components stand in it whole, where the service gets their ids."""
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    class Encoder(SdkJSONEncoder):  # type: ignore[misc]
        def default(self, o: Any) -> Any:
            if hasattr(o, "_to_rest_object"):  # a node's component, before the SDK has registered it
                return o._to_rest_object().as_dict()["properties"]["componentSpec"]
            return super().default(o)

    with quiet_sdk():
        body: dict[str, Any] = json.loads(json.dumps(job._to_rest_object(), cls=Encoder, exclude_readonly=True))
    return body
