"""The evaluate step: the base and the tuned model meet the same held-out rows, before and after so to say.

Both are measured on the labelled tokens of the test rows (the validation rows where there are no test rows), in the
arithmetic of the training, and both answer the first few prompts greedily.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import torch

from azft.data.dataset import TokenDataset, open_dataset, read_manifest
from azft.data.tokenizer import ChatTokenizer, load_tokenizer
from azft.errors import UsageError
from azft.files import write_bytes, write_json
from azft.parameters import EvaluateParameters
from azft.training import lora
from azft.training.batches import Batch, assemble
from azft.training.devices import Arithmetic, arithmetic, pick_device
from azft.training.generate import plain_text, stream_tokens
from azft.training.loss import TokenLoss
from azft.training.models import load_model, unwrapped
from azft.training.output import output_folder
from azft.training.probe import LeakError, token_loss
from azft.training.snapshot import seed_everything

Figures = dict[str, float]


def evaluate(parameters: EvaluateParameters, *, model: Path, dataset: Path, trained: Path, output: Path) -> None:
    """Compare base and tuned model on held-out rows.

    Args:
        parameters: What to do.
        model: Base model folder.
        dataset: The prepare step's output; its test split, else its validation split, is used.
        trained: The finetune step's output.
        output: Receives evaluation.json and samples.jsonl.

    Raises:
        UsageError: The dataset has no held-out rows with a token in the loss.
    """
    rows = _held_out(dataset)
    device = pick_device()
    numbers = arithmetic(parameters.precision, device)
    tokenizer = load_tokenizer(model)
    prompts = list(_prompts(rows, parameters.evaluation.samples))
    figures: dict[str, Figures] = {}
    answers: dict[str, list[str]] = {}
    for which, candidate in _candidates(parameters, model, trained, numbers):
        seed_everything(parameters.seed)
        figures[which] = measure(candidate, rows, numbers)
        answers[which] = [
            _answer(candidate, tokenizer, prompt, reference, parameters.evaluation.max_new_tokens)
            for prompt, reference in prompts
        ]
        _say(f"{which}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures[which].items()))
    labels = int(rows.label_counts.sum())
    with output_folder(output, last="evaluation.json") as folder:
        samples = [
            {
                "prompt": tokenizer.decode(prompt),
                "reference": plain_text(tokenizer, reference),
                **{which: answers[which][number] for which in answers},
            }
            for number, (prompt, reference) in enumerate(prompts)
        ]
        write_bytes(folder / "samples.jsonl", b"".join(orjson.dumps(sample) + b"\n" for sample in samples))
        documents = len(rows.document_offsets) - 1
        write_json(
            folder / "evaluation.json", {"split": rows.split, "rows": documents, "label_tokens": labels, **figures}
        )


def measure(model: Any, rows: TokenDataset, numbers: Arithmetic) -> Figures:
    """Loss (mean per label token), perplexity, and share of label tokens that are the model's first choice."""
    module, one_document = _loss_of(model)
    loss, correct, labels = 0.0, 0, 0
    for batch in _batches(rows, one_document=one_document):
        with numbers.autocast():
            score = module.score(batch.to(numbers.device))
        loss += float(score.loss)
        correct += int(score.correct)
        labels += len(batch.labels)
    mean = loss / labels
    return {"loss": mean, "perplexity": math.exp(min(mean, 700.0)), "token_accuracy": correct / labels}


def _held_out(dataset: Path) -> TokenDataset:
    splits = read_manifest(dataset)["splits"]
    rows = open_dataset(dataset, "test" if "test" in splits else "validation")
    if int(rows.label_counts.sum()) == 0:
        raise UsageError("No held-out row has a token in the loss.", fix="Name more data.test or data.validation rows.")
    return rows


def _candidates(
    parameters: EvaluateParameters, base: Path, trained: Path, numbers: Arithmetic
) -> Iterator[tuple[str, Any]]:
    """Base, then tuned model, one in memory at a time; an adapter is put onto the base that is there already."""
    adapter = (trained / lora.CONFIG).is_file()
    options: dict[str, Any] = {"task": parameters.task, "trust_remote_code": parameters.trust_remote_code}
    dtype = numbers.compute if adapter else torch.float32  # as in training
    model = load_model(base, dtype=dtype, **options).to(numbers.device)
    yield "base", model
    if adapter:
        model = lora.attach(model, trained).to(numbers.device)
    else:
        del model
        model = load_model(trained, dtype=dtype, **options).to(numbers.device)
    yield "tuned", model


def _loss_of(model: Any) -> tuple[TokenLoss, bool]:
    try:
        return token_loss(model, one_document=False), False
    except UsageError as error:
        if not isinstance(error.__cause__, LeakError):
            raise
        return token_loss(model, one_document=True), True


def _batches(rows: TokenDataset, *, one_document: bool) -> Iterator[Batch]:
    """All documents, in batches of about as many tokens as a sequence of the dataset may have."""
    waiting: list[Any] = []
    for number in range(len(rows.document_offsets) - 1):
        document = rows.document(number)
        if waiting and (one_document or sum(len(t) for t, _ in waiting) + len(document[0]) > rows.max_length):
            yield assemble(waiting)
            waiting = []
        waiting.append(document)
    if waiting:
        yield assemble(waiting)


def _prompts(rows: TokenDataset, count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Of the first documents: the tokens before the last labelled span, and that span.

    Working on token ids, a prompt is exactly what the model saw in training.
    """
    for number in range(len(rows.document_offsets) - 1):
        if count == 0:
            return
        tokens, mask = rows.document(number)
        labelled = mask.astype(bool).nonzero()[0]
        if len(labelled) == 0:
            continue
        end = start = int(labelled[-1]) + 1
        while start > 0 and mask[start - 1]:
            start -= 1
        if start > 0:
            count -= 1
            yield tokens[:start].tolist(), tokens[start:end].tolist()


def _answer(model: Any, tokenizer: ChatTokenizer, prompt: list[int], reference: list[int], max_new_tokens: int) -> str:
    """The greedy answer, which ends where servers stop or where the reference's turn ends."""
    stops = tokenizer.stop_ids | ({reference[-1]} & set(tokenizer.special_ids.values()))
    inner = unwrapped(model)
    measuring = inner.config._attn_implementation  # document attention has no cache
    inner.set_attn_implementation("eager" if getattr(inner.config, "attn_logit_softcapping", None) else "sdpa")
    try:
        tokens = stream_tokens(model, prompt, stop=sorted(stops), max_new_tokens=max_new_tokens)
        return plain_text(tokenizer, list(tokens))
    finally:
        inner.set_attn_implementation(measuring)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
