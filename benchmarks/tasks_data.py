"""What benchmarks/tasks.py trains on: of each task its model, its rows, made from a seed, and each row's own loss.

A document's second token says which document it is, so that a batch of any lane tells what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCABULARY, WIDTH, LAYERS, HEADS, CLASSES = 4096, 128, 8, 4, 4
FIRST_NAME = 16
"""Token ids from here on are the names of documents; contents come after them."""
START, SEPARATOR, END, PAD = 3, 4, 6, 1
STRIDE = 128
"""Tokens that neighbouring windows of one context share, as in transformers' run_qa."""
NOT_TOLD = -100
Row = dict[str, Any]
"""What a peer's dataset has of a row; `documents` are azft's (ids, loss mask, targets, start of the second text)."""


@dataclass(frozen=True)
class BenchTask:
    """A task, its model and its rows."""

    title: str
    task: str
    """What recipes call it."""
    objective: str
    model: str
    """A function of `MODELS`."""
    rows: Callable[[Any, int], Iterator[Row]]
    """(random numbers, how many) -> rows."""
    lanes: tuple[str, ...]
    goal: float
    """How much faster azft should be than the strongest of the others."""
    documents: int
    """Of a full run."""
    longest: int = 512
    """Tokens of a sequence: of the longest document, and of a packed row."""
    packed: bool = False
    target_width: int = 0

    @property
    def batch(self) -> int:
        """Sequences a step: 16 documents, or packed rows of about as many tokens."""
        return 2048 // self.longest if self.packed else 16


def bert(head: str) -> Any:
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
        **({} if head == "QuestionAnswering" else {"id2label": {n: f"c{n}" for n in range(CLASSES)}}),
    )
    return getattr(transformers, f"BertFor{head}")(config)


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=352,
        num_layers=LAYERS - 2,
        num_decoder_layers=LAYERS - 2,
        num_heads=HEADS,
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
    )
    return T5ForConditionalGeneration(config)


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=352,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=1024,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


MODELS: dict[str, Callable[[], Any]] = {
    "class": lambda: bert("SequenceClassification"),
    "tags": lambda: bert("TokenClassification"),
    "span": lambda: bert("QuestionAnswering"),
    "t5": t5,
    "llama": llama,
}


def build(task: str) -> Any:
    """The model: random weights, no dropout, so that losses can be compared."""
    torch.manual_seed(0)
    return MODELS[TASKS[task].model]().eval()


def words(random: Any, count: int, first: int) -> list[int]:
    """As many tokens, the frequent ones first, none of which is a document's name."""
    return [int(i) for i in first + np.minimum(random.zipf(1.3, count) - 1, VOCABULARY - first - 1)]


def text(
    random: Any, name: int, first: int, low: int, high: int, *, mean: float = 4.3, sigma: float = 0.8
) -> list[int]:
    """A text of log-normal length that begins with the start token and its name."""
    length = int(np.clip(random.lognormal(mean, sigma), low, high))
    return [START, name, *words(random, length - 2, first)]


def named(row: Callable[[Any, int, int], Row]) -> Callable[[Any, int], Iterator[Row]]:
    """Rows of a function that makes one: (random numbers, its name, the first token that is no name)."""
    return lambda random, count: (row(random, FIRST_NAME + n, FIRST_NAME + count) for n in range(count))


def classified(random: Any, name: int, first: int) -> Row:
    ids = text(random, name, first, 12, 512)
    label = int(random.integers(CLASSES))
    return {"input_ids": ids, "labels": label, "documents": [(ids, _first_of(ids), [[label]], None)]}


def tagged(random: Any, name: int, first: int) -> Row:
    ids = text(random, name, first, 12, 512)
    mask = [int(n > 1 and random.random() < 0.7) for n in range(len(ids))]
    mask[-1] = 1
    labels = [int(random.integers(CLASSES)) if counts else NOT_TOLD for counts in mask]
    told = [[label] for label in labels if label != NOT_TOLD]
    return {"input_ids": ids, "labels": labels, "documents": [(ids, mask, told, None)]}


def marked(random: Any, count: int) -> Iterator[Row]:
    """Questions of 8 to 25 tokens with contexts of about 150, cut into overlapping windows; `count` windows."""
    longest, first, name = TASKS["mark"].longest, FIRST_NAME + count, FIRST_NAME
    while name < first:
        question = words(random, int(random.integers(8, 25)), first)
        context = words(random, int(np.clip(random.lognormal(4.9, 0.6), 40, 900)), first)
        answer = int(random.integers(0, len(context) - 6))
        answer_end = answer + int(random.integers(0, 6))
        room = longest - len(question) - 4
        for start in range(0, max(1, len(context) - STRIDE), room - STRIDE):
            if name == first:
                return
            part = context[start : start + room]
            second = 3 + len(question)
            ids = [START, name, *question, SEPARATOR, *part, SEPARATOR]
            inside = start <= answer and answer_end < start + len(part)
            places = [second + answer - start, second + answer_end - start] if inside else [0, 0]
            yield {
                "input_ids": ids,
                "token_type_ids": [int(n >= second) for n in range(len(ids))],
                "start_positions": places[0],
                "end_positions": places[1],
                "documents": [(ids, _first_of(ids), [places], second)],
            }
            name += 1


def _pair(source: list[int], target: list[int]) -> Row:
    """For an encoder-decoder."""
    mask = [0] * len(source) + [1] * len(target)
    return {"input_ids": source, "labels": target, "documents": [(source + target, mask, None, None)]}


def translated(random: Any, name: int, first: int) -> Row:
    source = text(random, name, first, 12, 250)
    length = int(np.clip(len(source) * random.normal(0.95, 0.1), 8, 250))
    return _pair(source, [*words(random, length, first), END])


def shortened(random: Any, name: int, first: int) -> Row:
    """A document of about 250 tokens, the longest 420, and a summary of about 30."""
    source = text(random, name, first, 40, 420, mean=5.5, sigma=0.6)
    return _pair(source, _summary(random, first, 90))


def _summary(random: Any, first: int, most: int) -> list[int]:
    return [*words(random, int(np.clip(random.lognormal(3.4, 0.5), 8, most)), first), END]


def _written(prompt: list[int], completion: list[int]) -> Row:
    """For a decoder, which learns the completion."""
    ids, mask = prompt + completion, [0] * len(prompt) + [1] * len(completion)
    return {"input_ids": ids, "completion_mask": mask, "documents": [(ids, mask, None, None)]}


def answered(random: Any, name: int, first: int) -> Row:
    """A context and a question, and an answer of mostly two or three tokens."""
    prompt = text(random, name, first, 40, 470, mean=4.9, sigma=0.6)
    return _written(prompt, [*words(random, int(np.clip(random.lognormal(1.0, 0.7), 1, 30)), first), END])


def summarized(random: Any, name: int, first: int) -> Row:
    prompt = text(random, name, first, 60, 900, mean=5.7, sigma=0.6)
    return _written(prompt, _summary(random, first, 110))


def continued(random: Any, name: int, first: int) -> Row:
    """A text that is learned from its first word on; most are short, and a few are as long as there is room."""
    ids = text(random, name, first, 8, 1023, mean=4.2, sigma=1.2)
    return _written([], [*ids, END])


def preferred(random: Any, name: int, first: int) -> Row:
    prompt = text(random, name, first, 12, 200)
    chosen, rejected = ([*text(random, name, first, 8, 250)[2:], END] for _ in range(2))
    documents = [(prompt + answer, [0] * len(prompt) + [1] * len(answer), None, None) for answer in (chosen, rejected)]
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "documents": documents}


def _first_of(ids: list[int]) -> list[int]:
    """The loss mask of what is told about a whole document, at its first token."""
    return [1] + [0] * (len(ids) - 1)


READERS = ("azft", "trainer-padded", "trainer-grouped")
WRITERS = ("azft", "sft-grouped", "sft-padding-free", "sft-packed")
TASKS = {
    "classify": BenchTask(
        "classify a text (BERT)", "text-classification", "class", "class", named(classified), READERS, 1.3, 112,
        target_width=1,
    ),
    "tag": BenchTask(
        "tag each word (BERT)", "token-classification", "tag", "tags", named(tagged), READERS, 1.3, 112, target_width=1
    ),
    "mark": BenchTask(
        "mark the answer (BERT)", "question-answering", "span", "span", marked, (*READERS, "trainer-longest"), 1.3, 64,
        longest=384, target_width=2,
    ),
    "answer": BenchTask(
        "write the answer (Llama)", "question-answering", "next-token", "llama", named(answered), WRITERS, 2.0, 64,
        packed=True,
    ),
    "translate": BenchTask(
        "translate (T5)", "translation", "sequence-to-sequence", "t5", named(translated), READERS, 1.3, 64
    ),
    "shorten": BenchTask(
        "summarize (T5)", "summarization", "sequence-to-sequence", "t5", named(shortened), READERS, 1.3, 48
    ),
    "summarize": BenchTask(
        "summarize (Llama)", "summarization", "next-token", "llama", named(summarized), WRITERS, 2.0, 32,
        longest=1024, packed=True,
    ),
    "generate": BenchTask(
        "continue a text, lengths with a long tail (Llama)", "text-generation", "next-token", "llama",
        named(continued), WRITERS, 2.0, 80, longest=1024, packed=True,
    ),
    "prefer": BenchTask(
        "preference tuning, DPO (Llama)", "preference-tuning", "preference", "llama", named(preferred),
        ("azft", "trl", "trl-plain"), 2.0, 32,
    ),
}  # fmt: skip


def make(task: str, folder: Path, count: int) -> None:
    """The model's folder, the dataset, the same rows for the peers, and every row's own loss."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from azft.data.dataset_writer import write_dataset

    what, model = TASKS[task], build(task)
    model.save_pretrained(folder / "model")
    known = {"<bos>": 0, "<pad>": PAD, "<unk>": 2} | {f"w{n}": n for n in range(3, VOCABULARY)}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(known, unk_token="<unk>")),
        bos_token="<bos>",
        eos_token=f"w{END}",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder / "model")
    rows = list(what.rows(np.random.default_rng(5), count))
    with write_dataset(
        folder / "dataset",
        splits=["train"],
        vocab_size=VOCABULARY,
        max_length=what.longest,
        packing=what.packed,
        tokenizer="bench",
        objective=what.objective,
        target_width=what.target_width,
        labels=tuple(f"c{n}" for n in range(CLASSES)) if what.target_width == 1 else (),
        documents_per_row=2 if what.objective == "preference" else 1,
    ) as writer:
        for row in rows:
            for ids, mask, told, second in row["documents"]:
                targets = None if told is None else np.array(told, dtype=np.int32)
                writer.splits["train"].add(ids, mask, targets, second=second)
    with torch.no_grad():
        losses = [own_loss(model, row) for row in rows]
    tokens = sum(len(document[0]) for row in rows for document in row["documents"])
    kept = [{key: value for key, value in row.items() if key != "documents"} for row in rows]
    (folder / "work.json").write_text(json.dumps({"rows": kept, "losses": losses, "tokens": tokens}))


def own_loss(model: Any, row: Row) -> tuple[float, int]:
    """Summed loss and number of labels of one row alone, by the transformers model itself."""
    if "chosen" in row:
        return float(np.log(2)), 1  # nothing has moved
    given = {key: torch.tensor([value]) for key, value in row.items() if key not in ("documents", "completion_mask")}
    if "start_positions" in row:
        return float(model(**given).loss), 1
    if "completion_mask" in row:
        mask = torch.tensor([row["completion_mask"]])
        given["labels"] = given["input_ids"].masked_fill(mask == 0, NOT_TOLD)
        count = int(mask[0, 1:].sum())
    else:
        count = int((given["labels"] != NOT_TOLD).sum())
    return float(model(**given).loss) * count, count


class Work:
    """What `make` wrote, and the mean loss of any set of rows."""

    def __init__(self, name: str, folder: Path) -> None:
        work = json.loads((folder / "work.json").read_text())
        self.name, self.task, self.folder = name, TASKS[name], folder
        self.rows, self.losses, self.tokens = work["rows"], work["losses"], work["tokens"]

    def expected(self, ids: torch.Tensor) -> float:
        """Mean loss of the rows that are named among the tokens of a batch."""
        names = ids.flatten() - FIRST_NAME
        found = names[(names >= 0) & (names < len(self.rows))].tolist()
        return sum(self.losses[n][0] for n in found) / sum(self.losses[n][1] for n in found)
