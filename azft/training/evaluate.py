"""The evaluate step: the base and the tuned model meet the same held-out rows, before and after so to say.

Both are measured on the labelled tokens of the test rows (the validation rows where there are no test rows), in the
arithmetic of the training, and both answer the first prompts greedily: a few as samples, more where the task has
metrics over what is written (`azft.training.text_metrics`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch

from azft.data.clip_tokenizer import WORD_END
from azft.data.dataset import Document, TokenDataset, open_dataset, read_manifest
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.errors import UsageError
from azft.files import write_bytes, write_json
from azft.parameters import EvaluateParameters
from azft.tasks import TASKS
from azft.training import adapters
from azft.training.answers import greedy_answers
from azft.training.devices import Arithmetic, arithmetic, pick_device
from azft.training.generate import plain_text
from azft.training.models import load_model
from azft.training.objectives import OBJECTIVES, Figures, Totals
from azft.training.output import output_folder
from azft.training.probe import LeakError
from azft.training.snapshot import seed_everything
from azft.training.text_metrics import TEXT_METRICS
from azft.training.told import Sample


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
    metrics = _text_metrics(parameters, rows)
    prompts = _prompts(rows, parameters, for_metrics=bool(metrics))
    figures: dict[str, Figures] = {}
    answers: dict[str, list[str]] = {}
    told: dict[str, list[Sample]] = {}
    painted: dict[str, list[tuple[list[int], Any]]] = {}
    objective = OBJECTIVES[rows.objective]
    ask, reference = objective.reference, None
    for which, candidate in _candidates(parameters, model, trained, numbers, rows):
        seed_everything(parameters.seed)
        if ask is not None and which == "base":
            reference = ask(candidate, [rows], numbers)
        totals = totals_of(candidate, rows, numbers, against=reference, beta=parameters.dpo_beta)
        figures[which] = objective.figures(totals)
        if objective.samples is not None:
            told[which] = objective.samples(
                totals, lambda ids: plain_text(tokenizer, ids), parameters.evaluation.samples
            )
        if objective.paints is not None:
            painted[which] = objective.paints(candidate, rows, parameters.evaluation.samples, seed=parameters.seed)
        answers[which] = _answers(candidate, tokenizer, prompts, parameters.evaluation.max_new_tokens)
        measured = [number for number, prompt in enumerate(prompts) if prompt.references]
        for name in metrics if measured else ():
            said, right = [answers[which][n] for n in measured], [prompts[n].references for n in measured]
            figures[which][name] = TEXT_METRICS[name](said, right)
        _say(f"{which}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures[which].items()))
    labels = int(rows.label_counts.sum())
    with output_folder(output, last="evaluation.json") as folder:
        samples = [
            {
                "prompt": tokenizer.decode(prompt.tokens),
                "reference": plain_text(tokenizer, prompt.answer),
                **{which: answers[which][number] for which in answers},
            }
            for number, prompt in enumerate(prompts[: parameters.evaluation.samples])
        ] or [*_told_samples(told), *_painted_samples(painted, tokenizer, folder)]
        write_bytes(folder / "samples.jsonl", b"".join(orjson.dumps(sample) + b"\n" for sample in samples))
        documents = (len(rows.document_offsets) - 1) // objective.documents_per_row
        of_rows = len({source.row for source in rows.all_sources()}) or documents
        summary = {"split": rows.split, "rows": of_rows, "label_tokens": labels, **figures}
        if metrics and measured:
            summary["generated_rows"] = len(measured)
        write_json(folder / "evaluation.json", summary)


def measure(model: Any, rows: TokenDataset, numbers: Arithmetic, *, against: Any = None, beta: float = 0.0) -> Figures:
    """What the rows' objective reports: loss per thing to be told, and how many are told right. Takes `totals_of`'s."""
    return OBJECTIVES[rows.objective].figures(totals_of(model, rows, numbers, against=against, beta=beta))


def totals_of(model: Any, rows: TokenDataset, numbers: Arithmetic, *, against: Any = None, beta: float = 0.0) -> Totals:
    """What a model makes of held-out rows, in evaluation mode.

    `against` is what the base model says, for objectives that ask it (`preference.ask_reference`), with their `beta`.
    """
    module, one_document = _module(model, rows.objective)
    if against is not None:
        module.against(against, beta)
    totals = Totals(rows)
    for batch in _batches(rows, one_document=one_document):
        with numbers.autocast():
            score = module.score(batch.to(numbers.device))
        totals.loss += float(score.loss)
        totals.correct += int(score.correct)
        totals.labels += len(batch.labels)
        if score.answers is not None:
            totals.answers.append(score.answers.cpu())
            totals.told.append(batch.labels.cpu())
            totals.sequences.append(getattr(batch, "sequences", ()))
    return totals


def _told_samples(told: dict[str, list[Sample]]) -> list[dict[str, str]]:
    """What both models told about the same rows."""
    names = list(told)
    return [
        {"prompt": of[0].prompt, "reference": of[0].reference, **{n: s.answer for n, s in zip(names, of, strict=True)}}
        for of in zip(*told.values(), strict=True)
    ]


def _painted_samples(
    painted: dict[str, list[tuple[list[int], Any]]], tokenizer: ModelTokenizer, folder: Path
) -> list[dict[str, str]]:
    """Captions with the names of both models' pictures, which are written into `folder`."""
    samples: list[dict[str, str]] = []
    for number, of in enumerate(zip(*painted.values(), strict=True)):
        caption = plain_text(tokenizer, of[0][0]).replace(WORD_END, " ").strip()
        sample = {"prompt": caption}
        for which, (_, picture) in zip(painted, of, strict=True):
            sample[which] = f"pictures/{number}-{which}.png"
            (folder / "pictures").mkdir(exist_ok=True)
            picture.save(folder / sample[which])
        samples.append(sample)
    return samples


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
        **OBJECTIVES[rows.objective].loading(rows.labels),
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


@dataclass(frozen=True)
class _Prompt:
    """The tokens before the last labelled span of a document, that span, and the texts that would be right."""

    tokens: list[int]
    answer: list[int]
    references: list[str]


def _text_metrics(parameters: EvaluateParameters, rows: TokenDataset) -> list[str]:
    """The task's metrics over generated texts; none where the model writes no text, or nothing says what is right."""
    wanted = [name for name in TASKS[parameters.task].metrics if name in TEXT_METRICS]
    known = OBJECTIVES[rows.objective].writes and len(rows.references) > 0
    return wanted if known and parameters.evaluation.generate_rows else []


def _prompts(rows: TokenDataset, parameters: EvaluateParameters, *, for_metrics: bool) -> list[_Prompt]:
    """The prompts of the first documents: as many as are wanted as samples and, `for_metrics`, with references.

    Working on token ids, a prompt is exactly what the model saw in training.
    """
    objective = OBJECTIVES[rows.objective]
    wanted = parameters.evaluation
    count = max(wanted.samples, wanted.generate_rows if for_metrics else 0) if objective.writes else 0
    prompts: list[_Prompt] = []
    for number in range(0, len(rows.document_offsets) - 1, objective.documents_per_row):
        if len(prompts) >= count:
            break
        document = rows.document(number)
        labelled = document.loss_mask.astype(bool).nonzero()[0]
        if len(labelled) == 0:
            continue
        end = start = int(labelled[-1]) + 1
        while start > 0 and document.loss_mask[start - 1]:
            start -= 1
        if start > 0:
            answer = document.tokens[start:end].tolist()
            prompts.append(_Prompt(document.tokens[:start].tolist(), answer, rows.references_of(number)))
    return prompts


def _answers(model: Any, tokenizer: ModelTokenizer, prompts: list[_Prompt], max_new_tokens: int) -> list[str]:
    """The greedy answers, which end where servers stop or where the rows' own answers end."""
    if not prompts:
        return []
    ends = {prompt.answer[-1] for prompt in prompts} & set(tokenizer.special_ids.values())
    tokens = greedy_answers(
        model,
        [prompt.tokens for prompt in prompts],
        stop=sorted(tokenizer.stop_ids | ends),
        max_new_tokens=max_new_tokens,
    )
    return [plain_text(tokenizer, answer).strip() for answer in tokens]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
