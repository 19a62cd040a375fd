"""How the emulated workspace is: its names, its machines and quota, how long things take, what to start as children."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
TENANT = "00000000-0000-0000-0000-00000000000a"
ACCOUNT = "azftrehearsal"
"""The name of the one storage account."""
CONTAINER = "azureml-blobstore"


@dataclass(frozen=True)
class VmSize:
    """One row of what `compute.list_sizes()` answers."""

    name: str
    family: str
    vcpus: int
    memory_gb: float
    gpus: int
    low_priority: bool = True


VM_SIZES = (
    VmSize("Standard_DS3_v2", "standardDSv2Family", 4, 14, 0),
    VmSize("Standard_D12_v2", "standardDv2Family", 4, 28, 0),
    VmSize("Standard_D4s_v3", "standardDSv3Family", 4, 16, 0),
    VmSize("Standard_F4s_v2", "standardFSv2Family", 4, 8, 0),
    VmSize("Standard_E4s_v3", "standardESv3Family", 4, 32, 0),
    VmSize("Standard_D16s_v5", "standardDSv5Family", 16, 64, 0),
    VmSize("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 28, 1),
    VmSize("Standard_NC8as_T4_v3", "Standard NCASv3_T4 Family", 8, 56, 1),
    VmSize("Standard_NC16as_T4_v3", "Standard NCASv3_T4 Family", 16, 110, 1),
    VmSize("Standard_NC64as_T4_v3", "Standard NCASv3_T4 Family", 64, 440, 4),
    VmSize("Standard_NV36ads_A10_v5", "StandardNVADSA10v5Family", 36, 440, 1),
    VmSize("Standard_NV72ads_A10_v5", "StandardNVADSA10v5Family", 72, 880, 2),
    VmSize("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family", 24, 220, 1),
    VmSize("Standard_NC48ads_A100_v4", "StandardNCADSA100v4Family", 48, 440, 2),
    VmSize("Standard_NC96ads_A100_v4", "StandardNCADSA100v4Family", 96, 880, 4),
    VmSize("Standard_ND96asr_v4", "Standard NDASv4_A100 Family", 96, 900, 8),
    VmSize("Standard_ND96amsr_A100_v4", "Standard NDAMSv4_A100Family", 96, 1900, 8),
    VmSize("Standard_NC40ads_H100_v5", "StandardNCadsH100v5Family", 40, 320, 1),
    VmSize("Standard_NC80adis_H100_v5", "StandardNCadsH100v5Family", 80, 640, 2),
    VmSize("Standard_ND96isr_H100_v5", "standardNDSH100v5Family", 96, 1900, 8),
    VmSize("Standard_ND96isr_H200_v5", "standardNDISRH200V5Family", 96, 1850, 8),
)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; a PUT to /_emulator/settings changes single fields while it runs."""

    subscription: str = SUBSCRIPTION
    resource_group: str = "azft"
    workspace: str = "azft-rehearsal"
    location: str = "eastus2"
    regions: tuple[str, ...] = (
        "eastus2", "eastus", "northcentralus", "southcentralus", "westus", "westus3", "swedencentral",
    )  # fmt: skip
    trainer_command: tuple[str, ...] = ()
    """The command line that trains for a FineTuning job or a system pipeline; it gets --job and --output."""
    server_command: tuple[str, ...] = ()
    """The command line that answers for a deployed model; it gets --model and speaks JSON lines."""
    executor: Literal["run", "none"] = "run"
    """`none`: jobs pass through their states by the clock alone, and nothing is run."""
    queue_seconds: float = 0.0
    prepare_seconds: float = 0.0
    run_seconds: float = 0.0
    """How long a job runs when nothing is executed."""
    provision_seconds: float = 0.0
    """How long a compute, an endpoint or a deployment stays in Creating."""
    visible_seconds: float = 5.0
    """How long a created resource stays unseen under the fault `not-visible-yet`."""
    token_seconds: int = 86400
    quota: Mapping[str, int] = field(default_factory=dict)
    """Cores per VM family; a family that isn't named has `default_quota`."""
    low_priority_quota: int = 400
    default_quota: int = 400
    vm_sizes: tuple[VmSize, ...] = VM_SIZES

    def changed(self, values: Mapping[str, Any]) -> Settings:
        """The settings with some fields replaced by JSON values; an unknown field raises ValueError."""
        known = {item.name for item in fields(self)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
        made: dict[str, Any] = {}
        for name, value in values.items():
            if name == "vm_sizes":
                made[name] = tuple(item if isinstance(item, VmSize) else VmSize(**item) for item in value)
            else:
                made[name] = tuple(value) if isinstance(value, list) else value
        return replace(self, **made)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)
