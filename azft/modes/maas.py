"""Mode maas: Azure's serverless fine-tuning. Azure has the machines; billed by the token."""

from __future__ import annotations

from azft.modes.azure import AzureMode


class MaasMode(AzureMode):
    """A fine-tuning job without compute. The catalog says which models are offered where."""

    name = "maas"
