"""Mode maap: machines of your own subscription, with azft's pipeline, a registry's, or a fine-tuning job."""

from __future__ import annotations

from azft.modes.azure import AzureMode


class MaapMode(AzureMode):
    """A job on a cluster of the workspace, or on machines that Azure makes for it."""

    name = "maap"
