"""A folder with a model becomes a transformers model. Weights come from safetensors only; nothing is downloaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import torch

from azft.data.model_folder import (
    READING_HEADS,
    find_model_folder,
    find_tokenizer_folder,
    is_pipeline,
)
from azft.errors import AzftError, NotFoundError, UsageError, first_line
from azft.files import canonical_json, sha256_bytes, write_bytes, write_json
from azft.training import adapters, painter
from azft.training.devices import tell_deepspeed

if TYPE_CHECKING:
    from azft.techniques import Qlora

_SAMPLED_BYTES = 1 << 22


def load_model(
    folder: Path,
    *,
    head: str = "AutoModelForCausalLM",
    labels: Sequence[str] = (),
    problem: str | None = None,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
    quantization: Qlora | None = None,
) -> Any:
    """Load a model with its task's head, in evaluation mode on the CPU.

    Args:
        folder: A Hugging Face model folder (config.json and *.safetensors), or an MLflow model with one inside.
        head: The transformers auto class that gives it its head.
        labels: Names of the classes that the head tells apart, by number; a folder's own head must have as many, and
            one that is missing is made with random weights.
        problem: What transformers calls the kind of classification, which decides how a pipeline reads the head.
        dtype: Type of the weights; by default the one they are stored in.
        trust_remote_code: Run Python code from the folder.
        quantization: Keep linear weights in 4 bits, as it says, and compute with them in `dtype`.

    Raises:
        NotFoundError: There is no model in the folder.
        UsageError: Its weights are only there as pickles, or it needs `trust_remote_code`.
        AzftError: transformers can't load it.
    """
    folder = find_model_folder(folder)
    quiet()
    if head == painter.HEAD:
        return painter.Painter.from_pretrained(folder, dtype=dtype).eval()
    config = check_folder(folder)
    import transformers

    options = _named(labels, problem)
    if quantization is not None:
        from azft.training.quantised import configuration, same_arithmetic

        empty = empty_model(folder, head=head, labels=labels, trust_remote_code=trust_remote_code)
        options["quantization_config"] = configuration(quantization, empty, dtype or torch.float32)
    try:
        with _reported_unless(lambda: _only_heads_are_new(model, missing)):
            model, missing = getattr(transformers, head).from_pretrained(
                folder,
                **options,
                dtype="auto" if dtype is None else dtype,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if "auto_map" in config and not trust_remote_code:
            raise UsageError(
                f"The model in {folder} comes with Python code of its own, which transformers does not know.",
                fix="Read that code; if you trust it, set trust_remote_code: true in the recipe.",
            ) from error
        raise AzftError(
            f"The model in {folder} can't be loaded: {first_line(error)}",
            fix="Check that the folder is complete and that the installed transformers knows this architecture.",
        ) from error
    if quantization is not None:
        same_arithmetic(model)
    if head.removeprefix("AutoModel") in READING_HEADS and model.config.pad_token_id is None:
        # A decoder is read at its last token, which it finds by the filler behind it.
        end = model.config.eos_token_id
        model.config.pad_token_id = end[0] if isinstance(end, list) else end
    return model.eval()


def empty_model(
    folder: Path,
    *,
    head: str = "AutoModelForCausalLM",
    labels: Sequence[str] = (),
    problem: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """A model without weights, on torch's meta device: what `load_model` would give, in shapes. Takes its arguments."""
    if head == painter.HEAD:
        return painter.Painter.empty(folder)
    import transformers

    folder = find_model_folder(folder)
    config = transformers.AutoConfig.from_pretrained(
        folder, **_named(labels, problem), trust_remote_code=trust_remote_code, local_files_only=True
    )
    with torch.device("meta"):
        return getattr(transformers, head).from_config(config, trust_remote_code=trust_remote_code)


def _named(labels: Sequence[str], problem: str | None) -> dict[str, Any]:
    if not labels:
        return {}
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}}
    return named if problem is None else {**named, "problem_type": problem}


def check_folder(folder: Path) -> dict[str, Any]:
    """The folder's config.json, once it is sure that transformers can be let loose on it. Raises as `load_model`."""
    path = folder / "config.json"
    if not path.is_file():
        raise NotFoundError(f"There is no model in {folder}: it has no config.json.")
    try:
        config: dict[str, Any] = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise AzftError(f"{path} is not JSON: {error}.", fix="Fetch the model again.") from None
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        if pickles:
            raise UsageError(
                f"The weights in {folder} are pickles ({pickles[0]}), which can run code when they are loaded.",
                fix="Use a revision of the model that has .safetensors files.",
            )
        raise NotFoundError(f"There are no weights in {folder}: it has no .safetensors file.")
    return config


def save_model(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a whole model, floating tensors as `dtype`, into an existing folder; the model itself stays as it is."""
    if isinstance(model, painter.Painter):
        model.save(folder, dtype)
        return
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    # transformers notes the type of the weights in memory; loaders believe the note.
    config = orjson.loads((folder / "config.json").read_bytes()) | {"dtype": str(dtype).removeprefix("torch.")}
    write_json(folder / "config.json", config)


def verify_saved(model: Any, folder: Path) -> None:
    """Load a saved model back and compare every tensor, as rounded to the saved type; `AzftError` if one differs."""
    saved = type(model).from_pretrained(folder, dtype="auto", use_safetensors=True, local_files_only=True).state_dict()
    mine = model.state_dict()
    wrong = sorted(mine.keys() ^ saved.keys())
    wrong += [
        name
        for name in sorted(mine.keys() & saved.keys())
        if not torch.equal(mine[name].cpu().to(saved[name].dtype), saved[name])
    ]
    if wrong:
        raise AzftError(f"The model in {folder} is not the one in memory: {wrong[0]} differs.")


def fingerprint(folder: Path) -> str:
    """Hex SHA-256 that tells models apart without reading gigabytes.

    It covers JSON files whole, and of each weight file its size and its first and last 4 MiB, header included.
    """
    parts: dict[str, Any] = {}
    root = find_model_folder(folder)
    files = [*root.iterdir(), *(root.glob("*/*") if is_pipeline(root) else ())]
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        if file.suffix == ".json":
            parts[name] = sha256_bytes(file.read_bytes())
        elif file.suffix == ".safetensors":
            size = file.stat().st_size
            with file.open("rb") as handle:
                start = handle.read(_SAMPLED_BYTES)
                handle.seek(max(0, size - _SAMPLED_BYTES))
                parts[name] = [size, sha256_bytes(start + handle.read())]
    return sha256_bytes(canonical_json(parts))


def quiet() -> None:
    """Keep transformers' progress bars and others' hints out of a step's log; transformers' warnings stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # peft imports bitsandbytes where it is installed, which advises to install a kernel of the hub's: azft needs none.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    tell_deepspeed(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def _reported_unless(expected: Callable[[], bool]) -> Iterator[None]:
    """Hold back transformers' report of weights that a model and its files don't share; drop it where it's expected."""
    logger, held = logging.getLogger("transformers.modeling_utils"), list[logging.LogRecord]()

    def holds_back(record: logging.LogRecord) -> bool:
        is_report = "LOAD REPORT" in record.getMessage()
        held.extend([record] if is_report else [])
        return not is_report

    logger.addFilter(holds_back)
    try:
        yield
    finally:
        logger.removeFilter(holds_back)
    if held and not expected():
        for record in held:
            logger.handle(record)


def _only_heads_are_new(model: Any, info: dict[str, Any]) -> bool:
    """Whether what a model's files lack is the head that the task puts on, and nothing else."""
    lacking, heads = info["missing_keys"], adapters.new_heads(model)
    return bool(lacking) and all(key.partition(".")[0] in heads for key in lacking)


def unwrapped(model: Any) -> Any:
    """The transformers model itself, inside peft's wrapper or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_start(model: Any) -> int | None:
    """The token with which an encoder-decoder's decoder begins; None where the model does not say."""
    inner = unwrapped(model)
    for config in (inner.config, getattr(inner, "generation_config", None)):
        start = getattr(config, "decoder_start_token_id", None)
        if start is not None:
            return int(start)
    return None


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """Number of trainable weights, and of all; packed ones count as what they stand for."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    states = ((p, getattr(p, "quant_state", None)) for p in model.parameters())
    return trainable, sum(p.numel() if state is None else state.shape.numel() for p, state in states)


_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files, unchanged, from one model folder (or MLflow model) into another.

    A folder of diffusers has it as one of its parts, which are copied with it.
    """
    if is_pipeline(source):
        return
    source = find_tokenizer_folder(source)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            write_bytes(target / name, (source / name).read_bytes())
