"""Text from a model: token by token from ids, and replies to a conversation, streamed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from azft.asking import Answer, checked_row, text_answer
from azft.data.model_folder import has_model, is_pipeline, reading_class
from azft.errors import NotFoundError, UsageError
from azft.training import adapters
from azft.training.devices import arithmetic, pick_device
from azft.training.models import decoder_start, load_model, unwrapped

if TYPE_CHECKING:
    from azft.data.tokenizer import ModelTokenizer
    from azft.training.telling import ReaderModel


def stream_tokens(
    model: Any,
    prompt: Sequence[int],
    *,
    stop: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
) -> Iterator[int]:
    """Token ids that continue a prompt, as they are made; none of `stop` is among them (empty: the model's own apply).

    Temperature 0 takes the likeliest token each time. transformers' own `generate` does the work, in a thread, because
    it knows each architecture's cache; leaving the iterator early stops it.
    """
    from transformers import StoppingCriteriaList

    tokens = _Tokens()
    settings = generation_settings(model, stop=stop, max_new_tokens=max_new_tokens, temperature=temperature)
    ids = torch.tensor([list(prompt)], device=model.device)

    def work() -> None:
        try:
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
                streamer=tokens,
                stopping_criteria=StoppingCriteriaList([tokens.abandoned]),
            )
        except BaseException as error:  # handed to the reading thread
            tokens.fail(error)

    thread = threading.Thread(target=work, name="generate", daemon=True)
    thread.start()
    try:
        for token in tokens:
            if token in stop:
                break
            yield token
    finally:
        tokens.leave()
        thread.join()


def generation_settings(model: Any, *, stop: Sequence[int], max_new_tokens: int, temperature: float = 0.0) -> Any:
    """Transformers' settings: greedily at temperature 0, up to a token of `stop` (empty: the model's own apply)."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else None,
        eos_token_id=sorted(stop) or None,
        pad_token_id=min(stop, default=0),  # given so that nobody warns
        decoder_start_token_id=decoder_start(model) if unwrapped(model).config.is_encoder_decoder else None,
        use_cache=True,
    )


class _Tokens:
    """transformers' streamer interface (put, end) on one side, an iterator on the other."""

    def __init__(self) -> None:
        self._queue: queue.Queue[int | BaseException | None] = queue.Queue()
        self._left = threading.Event()
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._queue.put(int(value.reshape(-1)[-1]))
        self._prompt_seen = True

    def end(self) -> None:
        self._queue.put(None)

    def fail(self, error: BaseException) -> None:
        self._queue.put(error)

    def leave(self) -> None:
        self._left.set()

    def abandoned(self, ids: torch.Tensor, scores: Any, **_unused: Any) -> torch.Tensor:
        del scores
        return torch.full((ids.shape[0],), self._left.is_set(), device=ids.device)

    def __iter__(self) -> Iterator[int]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


@dataclass(frozen=True)
class ChatModel:
    """A model and its tokenizer, ready to talk.

    A model that was tuned to do one thing (translate, answer) is asked by its `prompt`, into whose place `column` goes
    what was said last; what was said before is nothing to it. Without a chat template, or where it was tuned on `plain`
    text, what was said last is what it goes on with.
    """

    model: Any
    tokenizer: ModelTokenizer
    prompt: str = ""
    column: str = ""
    plain: bool = False
    reads: tuple[str, ...] = ()
    """The columns of a row with which it may be asked; () where it is asked in conversation alone."""

    def reply(
        self, messages: Sequence[Mapping[str, Any]], *, max_new_tokens: int = 256, temperature: float = 0.0
    ) -> Iterator[str]:
        """Pieces of the assistant's answer to a conversation, as they are made, up to the template's stop token."""
        yield from self._written(self.asked(messages), max_new_tokens, temperature)

    def ask(self, row: Mapping[str, Any], *, max_new_tokens: int = 256, temperature: float = 0.0) -> Answer:
        """What is written about a row. Raises `UsageError` for one that the model is not asked with."""
        asked = self.asked_row(checked_row(row, self.reads))
        return text_answer("".join(self._written(asked, max_new_tokens, temperature)))

    def go_on(self, text: str, *, max_new_tokens: int = 256, temperature: float = 0.0) -> Iterator[str]:
        """Pieces of what follows a text as it stands, as they are made."""
        plain = replace(self, prompt="", plain=True)
        yield from self._written(plain.asked([{"content": text}]), max_new_tokens, temperature)

    def _written(self, asked: list[int], max_new_tokens: int, temperature: float) -> Iterator[str]:
        yield from pieces(
            self.tokenizer,
            stream_tokens(
                self.model,
                asked,
                stop=sorted(self.tokenizer.stop_ids),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
            ),
        )

    def asked(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a conversation, as the model was trained to be asked."""
        said = str(messages[-1]["content"])
        return self.asked_row({self.column: said}) if self.prompt else self._asked(said, messages)

    def asked_row(self, row: Mapping[str, Any]) -> list[int]:
        """Token ids of a row, its columns in the places of the prompt, as the model was trained to be asked."""
        from azft.data.prompts import fill

        text = fill(self.prompt, row).text if self.prompt else str(row[self.reads[0]])
        return self._asked(text, [{"role": "user", "content": text}])

    def _asked(self, text: str, turns: Sequence[Mapping[str, Any]]) -> list[int]:
        from azft.data.text_rendering import opening_text

        if self.tokenizer.model_kind == "encoder-decoder":
            return list(self.tokenizer.backend.encode(text, add_special_tokens=True).ids)
        if self.tokenizer.template is None or self.plain:
            return self.tokenizer.encode(opening_text(self.tokenizer) + text + ("\n" if self.prompt else ""))
        return self.tokenizer.encode(self.tokenizer.template.render(list(turns), add_generation_prompt=True))


def pieces(tokenizer: ModelTokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """Text of a stream of tokens, never breaking a character: bytes that are not yet one are held back."""
    ids: list[int] = []
    shown = ""
    for token in tokens:
        ids.append(token)
        text = plain_text(tokenizer, ids)
        if text.endswith("\ufffd"):
            continue
        if len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
    rest = plain_text(tokenizer, ids)[len(shown) :]
    if rest:
        yield rest


def plain_text(tokenizer: ModelTokenizer, ids: Sequence[int]) -> str:
    """Text of token ids without special tokens."""
    return str(tokenizer.backend.decode(list(ids), skip_special_tokens=True))


def load_chat(
    folder: Path, *, prompt: str = "", column: str = "", plain: bool = False, reads: tuple[str, ...] = ()
) -> ChatModel | ReaderModel:
    """Load a packaged model, or any model folder; one that reads texts and writes none tells about rows.

    `prompt`, `column`, `plain` and `reads` are `ChatModel`'s.

    Raises:
        NotFoundError: There is no model, or it holds an adapter alone.
        UsageError: It has no head that tells anything, it paints, or its tokenizer does not say where an answer ends.
    """
    from azft.data.model_folder import model_kind
    from azft.data.tokenizer import load_tokenizer

    base = folder / "base" if (folder / "base").is_dir() else folder  # what can't be merged is packaged beside its base
    if not has_model(base) and any((folder / p / adapters.CONFIG).is_file() for p in (".", "adapter")):
        raise NotFoundError(
            f"{folder} holds an adapter and not a whole model.",
            fix="Package it with output.merge: true, and chat with that.",
        )
    if is_pipeline(base):
        raise UsageError(
            f"The model in {folder} paints pictures and writes no text, so there is nobody to chat with.",
            fix=f'Ask it in Python: diffusers.StableDiffusionPipeline.from_pretrained("{folder}")("a red circle")',
        )
    if (auto_class := reading_class(base)) == "AutoModel":
        raise UsageError(
            f"The model in {folder} reads texts and has no head that would tell anything about them.",
            fix=f'Fine-tune it for a task, or ask it in Python: transformers.AutoModel.from_pretrained("{base}")',
        )
    if auto_class is not None:
        from azft.training.telling import load_reader

        return load_reader(folder, base, auto_class)
    device = pick_device()
    dtype = arithmetic("auto", device).compute
    head = "AutoModelForSeq2SeqLM" if model_kind(base) == "encoder-decoder" else "AutoModelForCausalLM"
    model = load_model(base, head=head, dtype=dtype).to(device)
    if base is not folder:
        model = adapters.attach(model, folder / "adapter").to(device)
    tokenizer = load_tokenizer(folder)
    if not tokenizer.stop_ids:
        raise UsageError(
            f"The tokenizer in {folder} has no end-of-text token, so an answer would never end.",
            fix="Set eos_token_id in its generation_config.json.",
        )
    return ChatModel(model, tokenizer, prompt, column, plain, reads)
