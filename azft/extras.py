"""The optional parts of azft: which packages each needs and what for, and the error when one is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from azft.errors import MissingDependencyError

EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": ("preview, token lengths, Parquet", ("huggingface-hub", "jinja2", "pyarrow", "tokenizers")),
    "train": (
        "training and chat",
        ("gguf", "peft", "rouge-score", "sacrebleu", "safetensors", "torch", "transformers"),
    ),
    "deepspeed": ("ZeRO, for distribution.strategy: deepspeed", ("deepspeed",)),
    "quant": ("a base model in 4 bits, for qlora", ("bitsandbytes",)),
    "images": ("pictures, and models that paint them", ("diffusers", "pillow")),
    "kernels": ("fused kernels for NVIDIA GPUs; optional", ("liger-kernel",)),
    "azure": ("the pipeline object, which local mode runs too", ("azure-ai-ml", "azure-identity")),
    "emulator": (
        "Azure on this machine, for rehearsals",
        ("cryptography", "requests", "starlette", "urllib3", "uvicorn"),
    ),
    "notebook": ("plots and live curves in Jupyter", ("ipykernel", "matplotlib")),
    "mlflow": ("the mirror of metrics; optional", ("azureml-mlflow", "mlflow")),
}
"""Extra -> what it is for, and its packages; a test compares them with pyproject.toml."""

FOR_GPUS = ("kernels",)
"""Extras that are of no use without an NVIDIA GPU."""
LOCAL_MODE = ("data", "train", "azure")
"""Extras without which nothing can be trained on this machine."""


METRIC_PACKAGES: dict[str, tuple[str, str]] = {
    "bleu": ("sacrebleu", "sacrebleu"),
    "chrf": ("sacrebleu", "sacrebleu"),
    "rouge1": ("rouge_score", "rouge-score"),
    "rouge2": ("rouge_score", "rouge-score"),
    "rougeL": ("rouge_score", "rouge-score"),
}
"""Metrics that a package measures: the module that is imported, and the package that brings it (of extra `train`)."""


def require_metrics(metrics: Iterable[str]) -> None:
    """Raise `MissingDependencyError` for the first metric whose package is not installed; nothing is imported."""
    for metric in metrics:
        module, package = METRIC_PACKAGES.get(metric, (None, metric))
        if module is not None and importlib.util.find_spec(module) is None:
            raise MissingDependencyError(package, extra="train", purpose=f"Measuring {metric}")


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Turn a failed import of an optional package into a `MissingDependencyError` that names the pip line."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in {"", "azft"}:  # a fault of ours, which must not look like a missing package
            raise
        raise MissingDependencyError(name, extra=extra, purpose=purpose) from None
