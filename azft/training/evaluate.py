"""The evaluate step: the base and the tuned model meet the same held-out rows, before and after so to say.

Both are measured on the labelled tokens of the test rows (the validation rows where there are no test rows), in the
arithmetic of the training, and both answer the first few prompts greedily.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import torch

from azft.data.dataset import Document, TokenDataset, open_dataset, read_manifest
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.errors import UsageError
from azft.files import write_bytes, write_json
from azft.parameters import EvaluateParameters
from azft.training import adapters
from azft.training.devices import Arithmetic, arithmetic, pick_device
from azft.training.generate import plain_text, stream_tokens
from azft.training.models import load_model, unwrapped
from azft.training.objectives import OBJECTIVES, Figures, Totals
from azft.training.output import output_folder
from azft.training.probe import LeakError
from azft.training.snapshot import seed_everything


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
    ask, reference = OBJECTIVES[rows.objective].reference, None
    for which, candidate in _candidates(parameters, model, trained, numbers, rows):
        seed_everything(parameters.seed)
        if ask is not None and which == "base":
            reference = ask(candidate, [rows], numbers)
        figures[which] = measure(candidate, rows, numbers, against=reference, beta=parameters.dpo_beta)
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
        documents = (len(rows.document_offsets) - 1) // OBJECTIVES[rows.objective].documents_per_row
        write_json(
            folder / "evaluation.json", {"split": rows.split, "rows": documents, "label_tokens": labels, **figures}
        )


def measure(model: Any, rows: TokenDataset, numbers: Arithmetic, *, against: Any = None, beta: float = 0.0) -> Figures:
    """What the rows' objective reports: loss per thing to be told, and how many are told right.

    `against` is what the base model says, for objectives that ask it (`preference.ask_reference`), with their `beta`.
    """
    objective = OBJECTIVES[rows.objective]
    module, one_document = _module(model, rows.objective)
    if against is not None:
        module.against(against, beta)
    totals = Totals(names=rows.labels)
    for batch in _batches(rows, one_document=one_document):
        with numbers.autocast():
            score = module.score(batch.to(numbers.device))
        totals.loss += float(score.loss)
        totals.correct += int(score.correct)
        totals.labels += len(batch.labels)
        if score.answers is not None:
            totals.answers.append(score.answers.cpu())
            totals.told.append(batch.labels.cpu())
    return objective.figures(totals)


def _held_out(dataset: Path) -> TokenDataset:
    splits = read_manifest(dataset)["splits"]
    rows = open_dataset(dataset, "test" if "test" in splits else "validation")
    if int(rows.label_counts.sum()) == 0:
        raise UsageError("No held-out row has a token in the loss.", fix="Name more data.test or data.validation rows.")
    return rows


def _candidates(
    parameters: EvaluateParameters, base: Path, trained: Path, numbers: Arithmetic, rows: TokenDataset
) -> Iterator[tuple[str, Any]]:
    """Base, then tuned model, one in memory at a time; an adapter is put onto the base that is there already."""
    adapter = (trained / adapters.CONFIG).is_file()
    options: dict[str, Any] = {
        "head": OBJECTIVES[rows.objective].head,
        "labels": rows.labels,
        "trust_remote_code": parameters.trust_remote_code,
    }
    dtype = numbers.compute if adapter else torch.float32  # as in training
    seed_everything(parameters.seed)  # a head that the base has not is made as the training made it
    model = load_model(base, dtype=dtype, **options).to(numbers.device)
    yield "base", model
    if adapter:
        model = adapters.attach(model, trained).to(numbers.device)
    else:
        del model
        model = load_model(trained, dtype=dtype, **options).to(numbers.device)
    yield "tuned", model


def _module(model: Any, objective: str) -> tuple[Any, bool]:
    """The model in its objective's module, and whether it takes one document at a time only."""
    make = OBJECTIVES[objective].make
    try:
        return make(model, False), False
    except UsageError as error:
        if not isinstance(error.__cause__, LeakError):
            raise
        return make(model, True), True


def _batches(rows: TokenDataset, *, one_document: bool) -> Iterator[Any]:
    """All documents, in batches of about as many tokens as a sequence of the dataset may have."""
    objective = OBJECTIVES[rows.objective]
    if objective.pads or objective.batch is not None:
        for members in objective.micro_batches(rows, range(len(rows)), micro=1, rank=0, ranks=1):
            yield objective.batch_of(rows, members)
        return
    waiting: list[Document] = []
    for number in range(len(rows.document_offsets) - 1):
        document = rows.document(number)
        room = rows.max_length - len(document.tokens)
        if waiting and (one_document or sum(len(one.tokens) for one in waiting) > room):
            yield objective.assemble(waiting, ())
            waiting = []
        waiting.append(document)
    if waiting:
        yield objective.assemble(waiting, ())


def _prompts(rows: TokenDataset, count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Of the first documents: the tokens before the last labelled span, and that span.

    Working on token ids, a prompt is exactly what the model saw in training.
    """
    for number in range(0, len(rows.document_offsets) - 1, OBJECTIVES[rows.objective].documents_per_row):
        if count == 0:
            return
        tokens, mask, _ = rows.document(number)
        labelled = mask.astype(bool).nonzero()[0]
        if len(labelled) == 0:
            continue
        end = start = int(labelled[-1]) + 1
        while start > 0 and mask[start - 1]:
            start -= 1
        if start > 0:
            count -= 1
            yield tokens[:start].tolist(), tokens[start:end].tolist()


def _answer(model: Any, tokenizer: ModelTokenizer, prompt: list[int], reference: list[int], max_new_tokens: int) -> str:
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
