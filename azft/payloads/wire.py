"""The JSON that the SDK sends for one of its objects, without sending it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from azft.pipeline import quiet_sdk

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job


def wire(entity: Any) -> dict[str, Any]:
    """The JSON of one of the SDK's REST objects. A component that isn't registered yet stands in it whole."""
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    class Encoder(SdkJSONEncoder):  # type: ignore[misc]
        def default(self, o: Any) -> Any:
            if hasattr(o, "_to_rest_object"):  # a node's component, before the SDK has registered it
                return o._to_rest_object().as_dict()["properties"]["componentSpec"]
            return super().default(o)

    body: dict[str, Any] = json.loads(json.dumps(entity, cls=Encoder, exclude_readonly=True))
    return body


def to_wire(job: Job) -> dict[str, Any]:
    """The body of a job's PUT. A pipeline's components stand in it whole, where the service gets their ids."""
    with quiet_sdk():
        return wire(job._to_rest_object())
