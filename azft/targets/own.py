"""azft's own pipeline on Azure: everything in the recipe goes into the steps' parameters, as in local mode."""

from __future__ import annotations

from azft.targets.table import Elsewhere, NotOffered, Table, leaves

_EXCEPTIONS: Table = {
    "name": Elsewhere("the job's name, display name and experiment"),
    "description": Elsewhere("the job's description"),
    "data.train": Elsewhere("the input `train`"),
    "data.validation": Elsewhere("the input `validation`"),
    "data.test": Elsewhere("the input `test`"),
    "model": Elsewhere("the input `model`"),
    "model_revision": Elsewhere("which revision of the hub is uploaded; of no meaning for a registry's model"),
    "modes.local.processes": Elsewhere("another mode's section"),
    "modes.local.weights": Elsewhere("another mode's section"),
    "modes.maas.region": Elsewhere("another mode's section"),
    "modes.maas.route": Elsewhere("another mode's section"),
    "modes.maap.compute": Elsewhere("settings.default_compute"),
    "modes.maap.instance_types": Elsewhere("each step's resources.instance_type"),
    "modes.maap.vm_size": Elsewhere("checked, and for --create-compute"),
    "modes.maap.nodes": Elsewhere("the finetune step's resources.instance_count"),
    "modes.maap.gpus_per_node": Elsewhere("the finetune step's distribution.process_count_per_instance"),
    "modes.maap.tier": Elsewhere("each step's queue_settings.job_tier, or for --create-compute"),
    "modes.maap.pipeline": Elsewhere("chooses this pipeline"),
    "modes.maap.parameters": NotOffered(
        "azft's own pipeline takes its values from the recipe's other sections", "Leave it out.", quiet=True
    ),
    "modes.maap.max_nodes": Elsewhere("for --create-compute"),
    "modes.maap.idle_seconds": Elsewhere("for --create-compute"),
}

OWN_PIPELINE: Table = {path: _EXCEPTIONS.get(path, Elsewhere("a step's parameters")) for path in leaves()}
