"""A model's tokenizer and chat template, read from its folder by `tokenizers` alone.

Importing transformers costs seconds and pulls in torch; the data commands need neither. Ids and text are equal to
transformers' (tests compare them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from tokenizers import AddedToken, Tokenizer

from azft.data import clip_tokenizer
from azft.data.chat_template import ChatTemplate
from azft.data.model_folder import (
    CLIP_TOKENIZER,
    ModelKind,
    find_config,
    find_model_folder,
    find_tokenizer_folder,
    has_clip_tokenizer,
    model_kind,
    positions_of,
)
from azft.errors import AzftError, NotFoundError
from azft.files import canonical_json, sha256_bytes

TEMPLATE_DATE = datetime(2024, 7, 26)
"""What templates that write today's date are told: the same data must give the same tokens on any day. It is the date
that Llama 3's template falls back to."""


@dataclass(frozen=True)
class ModelTokenizer:
    """Text to token ids and messages to text, for one model folder."""

    folder: Path
    backend: Tokenizer
    template: ChatTemplate | None
    """None for a model that was not made for chat."""
    special_ids: Mapping[str, int]
    """Text and id of every special token, and of every added one at which servers stop: text that is never data."""
    stop_ids: frozenset[int]
    """Ids at which servers stop generating: the tokenizer's eos and what generation_config.json and config.json add."""
    vocab_size: int
    """One more than the highest token id."""
    fingerprint: str
    """Hex SHA-256 of everything that decides the token ids of a row."""
    variables: Mapping[str, str]
    """Text of the special tokens by the names that configs give them: `eos_token`."""
    model_kind: ModelKind = "decoder"
    """What kind of model it belongs to: some tasks are rendered by it."""

    def chat_template(self) -> ChatTemplate:
        """The chat template; `AzftError` where there is none."""
        if self.template is None:
            raise AzftError(
                f"{self.folder} has no chat template, so there is no telling how the model writes conversations.",
                fix="Use an instruction-tuned model, or put a chat_template.jinja into the folder.",
            )
        return self.template

    def encode(self, text: str) -> list[int]:
        """Token ids of text that was rendered by the template (so no bos is added)."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        return str(self.backend.decode(list(ids), skip_special_tokens=False))


def load_tokenizer(folder: Path, *, now: datetime | None = TEMPLATE_DATE) -> ModelTokenizer:
    """Read `tokenizer.json`, `tokenizer_config.json` and the chat template of a model folder, plain or MLflow's.

    `now` is the date that a template may ask for; None is the clock. Raises `NotFoundError` where the folder has no
    tokenizer.json, `AzftError` for damaged files.
    """
    model, folder = find_model_folder(folder), find_tokenizer_folder(folder)
    path = folder / "tokenizer.json"
    backend, data = _backend(folder, path)
    backend.no_padding()
    backend.no_truncation()
    config = _read_json(folder / "tokenizer_config.json")
    _add_missing_tokens(backend, config, path)
    variables = _special_variables(config, _read_json(folder / "special_tokens_map.json"))
    source, tool_source = _chat_template(folder, config)
    template = None if source is None else ChatTemplate(source, variables, tool_source=tool_source, now=now)
    added = backend.get_added_tokens_decoder()
    eos = backend.token_to_id(variables["eos_token"]) if "eos_token" in variables else None
    stop_ids = _stop_ids(model) | ({eos} if eos is not None else frozenset())
    identity = {
        "added": {str(number): token.content for number, token in added.items()},
        "template": [source, tool_source],
        "tokenizer": sha256_bytes(data),
        "variables": variables,
    }
    return ModelTokenizer(
        folder=folder,
        backend=backend,
        template=template,
        special_ids={
            token.content: number for number, token in sorted(added.items()) if token.special or number in stop_ids
        },
        stop_ids=stop_ids,
        vocab_size=max(backend.get_vocab_size(with_added_tokens=True), *(number + 1 for number in added), 0),
        fingerprint=sha256_bytes(canonical_json(identity)),
        variables=variables,
        model_kind=model_kind(model),
    )


def context_length(folder: Path) -> int | None:
    """Most tokens that the model in `folder` can attend to, by its config.json; None where it doesn't say."""
    return positions_of(_read_json(find_config(folder)))


def _backend(folder: Path, path: Path) -> tuple[Tokenizer, bytes]:
    """The tokenizer itself, and the bytes that decide what it is."""
    if not path.is_file() and has_clip_tokenizer(folder):
        return clip_tokenizer.read(folder), b"".join((folder / name).read_bytes() for name in CLIP_TOKENIZER)
    if not path.is_file():
        raise NotFoundError(
            f"{folder} has no tokenizer.json.",
            fix="Use a model folder in the Hugging Face format with a fast tokenizer (save_pretrained writes one).",
        )
    data = path.read_bytes()
    try:
        return Tokenizer.from_buffer(data), data
    except Exception as error:  # the library raises plain Exception
        raise AzftError(f"{path} can't be read: {error}.", fix="Copy the model folder again.") from None


def _read_json(path: Path) -> dict[str, Any]:
    """The file's mapping; an empty one where the file is missing."""
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise AzftError(f"{path} is not valid JSON: {error}.", fix="Copy the model folder again.") from None
    if not isinstance(value, dict):
        raise AzftError(f"{path} must hold a JSON object.", fix="Copy the model folder again.")
    return value


def _text(value: Any) -> str | None:
    """A token's text: configs give either the text or a mapping with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _special_variables(config: Mapping[str, Any], special_map: Mapping[str, Any]) -> dict[str, str]:
    """The names under which a template sees special tokens, such as `bos_token`."""
    extra = config.get("extra_special_tokens")
    named = {**special_map, **config, **(extra if isinstance(extra, dict) else {})}
    texts = {name: _text(value) for name, value in named.items() if name.endswith("_token")}
    return {name: text for name, text in sorted(texts.items()) if text is not None}


def _add_missing_tokens(backend: Tokenizer, config: Mapping[str, Any], path: Path) -> None:
    """Older folders list some added tokens only in tokenizer_config.json."""
    listed = config.get("added_tokens_decoder")
    for number, token in sorted((listed if isinstance(listed, dict) else {}).items(), key=lambda item: int(item[0])):
        text = _text(token)
        if text is None or backend.token_to_id(text) is not None:
            continue
        flags = {
            flag: bool(token.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")
        }
        backend.add_tokens([AddedToken(text, **flags)])
        if backend.token_to_id(text) != int(number):
            raise AzftError(
                f"{path} has no token {text!r}, which tokenizer_config.json gives the id {number}.",
                fix="The two files belong to different models: copy the model folder again.",
            )


def _chat_template(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The template for plain conversations, and the one for tools where there is a second; None where there is none."""
    path, named = folder / "chat_template.jinja", config.get("chat_template")
    templates: dict[str, str] = {}
    if isinstance(named, str):
        templates["default"] = named
    elif isinstance(named, list):
        templates.update({entry["name"]: entry["template"] for entry in named if isinstance(entry, dict)})
    if path.is_file():
        templates["default"] = path.read_text(encoding="utf-8")
    tool_path = folder / "additional_chat_templates" / "tool_use.jinja"
    if tool_path.is_file():
        templates["tool_use"] = tool_path.read_text(encoding="utf-8")
    return templates.get("default"), templates.get("tool_use")


def _stop_ids(folder: Path) -> frozenset[int]:
    """`eos_token_id` of generation_config.json, else of config.json: a number or a list of them."""
    for name in ("generation_config.json", "config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        if value is not None:
            return frozenset(
                number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)
            )
    return frozenset()
