"""The task table: what a row of data must look like, and what a task makes of it.

A new task is a new row here and, where no row of `azft.data.renderers` and `azft.training.objectives` fits, one there.
Only tasks whose whole path exists are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a task reads. `kind` names the shape of its values, which the data check verifies.

    `aliases` are other names by which data sets know it: taken for it when the file has one of them and no column of
    the task's own name, and said.
    """

    name: str
    kind: str
    help: str
    required: bool = True
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A row of the table.

    `rendering` names how a row becomes tokens (`azft.data.renderers`), and that says what is learned from them.
    `metrics` are what evaluation reports, best known first.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rendering: str | None
    metrics: tuple[str, ...]
    forms: tuple[tuple[str, ...], ...] = ()
    """Sets of columns, one of which a row must have; () means every required column."""
    target: str | None = None
    """The column that is learned; the others come before it. None: the first column says by itself what is learned."""
    reads: tuple[str, ...] = ()
    """The columns of a row with which a tuned model is asked, the one that says most of it first; () where it is asked
    in conversation, or can't be asked."""
    prompt: str = ""
    """How the columns before the target make the prompt, with {column} in the places of their values."""
    long_rows: Literal["drop", "truncate", "split"] = "drop"
    """What becomes of rows that are too long where the recipe doesn't say: what is read loses little by a cut, what is
    written loses its end, and every word that has a tag is worth a piece."""
    whole: tuple[str, ...] = ()
    """Columns of which nothing is cut off where a prompt is too long: half a question is another question."""
    passage: str | None = None
    """The column that many rows may have in common, each asking something else about it."""
    asked: str = "prompt"
    told: str = "answer"
    """What findings call the part of a row that is given, and the part that is learned."""
    encoder: str | None = None
    encoder_decoder: str | None = None
    diffusion: str | None = None
    """The rendering for models of these kinds; None: they can't do the task. `rendering` is a decoder's."""
    limits: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Keys of the recipe's technique and distribution, and the only values by which its models can be trained."""
    rate_divisor: int = 1
    """How many times lower than the technique's the learning rate is where the recipe gives none."""
    pipeline_tag: str = "text-generation"
    """What model hubs call it."""

    @property
    def needs_chat_template(self) -> bool:
        """Whether a model without a chat template can't do it; others are asked in plain text where they have none."""
        return self.rendering in ("chat", "pair")

    def fate(self, long_rows: Literal["drop", "truncate", "split", "error"]) -> str:
        """What becomes of a row that is too long, after "it is", by data.long_rows; "" where it stops the run."""
        where = {
            "text": "off at the end, or in the prompt where it has one",
            "prompt": "in the prompt",
            "pair": "in the prompt",
        }.get(self.rendering or "", "off at the end")
        return {
            "drop": "left out",
            "truncate": f"cut {where}",
            "split": "cut into pieces",
            "error": "",
        }[long_rows]

    def rendering_for(self, kind: str) -> str | None:
        """The rendering for a kind of model (`azft.data.model_folder.ModelKind`); None where it can't do the task."""
        return {
            "decoder": self.rendering,
            "encoder": self.encoder,
            "encoder-decoder": self.encoder_decoder,
            "diffusion": self.diffusion,
        }[kind]

    def refusals(self, technique: object, distribution: object) -> Iterator[tuple[str, str, str]]:
        """What these sections of a recipe say that the task's models can't do, the first of each.

        Key, message, what to do.
        """
        sections = {"technique": technique, "distribution": distribution}
        for key, possible in self.limits:
            section, name = key.split(".")
            if section not in sections:
                continue
            said = getattr(sections[section], name, possible[0])
            if said not in possible:
                del sections[section]
                names = [str(one) for one in possible if one != []]
                fix = f"Take {' or '.join(names)}." if names else "Leave it out."
                yield key, f"{key} {said}: models of {self.name} can't be trained so.", fix

    def form_of(self, given: Iterable[str]) -> tuple[str, ...]:
        """The set of columns that a row with the `given` ones must have: the one that misses least of them."""
        names = set(given)
        forms = self.forms or (tuple(column.name for column in self.columns if column.required),)
        return min(forms, key=lambda form: len(set(form) - names))


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="chat-completion",
            title="Chat: the model learns the assistant's turns of a conversation",
            columns=(
                Column("messages", "messages", "a list of {role, content}; roles: system, user, assistant, tool"),
                Column("tools", "tools", "the functions the assistant may call, in OpenAI's format", required=False),
            ),
            rendering="chat",
            asked="conversation",
            metrics=("loss", "perplexity", "token_accuracy"),
        ),
        Task(
            name="text-generation",
            title="Text: the model learns to continue, whole texts or the completion of a prompt",
            columns=(
                Column("text", "text", "a text that is learned from its first word to its last", required=False,
                       aliases=("content", "document")),
                Column("prompt", "text", "what comes before", required=False, aliases=("input", "instruction")),
                Column("completion", "text", "what is learned", required=False,
                       aliases=("output", "response", "ground_truth")),
            ),
            rendering="text",
            told="completion",
            metrics=("loss", "perplexity", "token_accuracy"),
            forms=(("text",), ("prompt", "completion")),
            target="completion",
            reads=("prompt",),
        ),
        Task(
            name="question-answering",
            title="Question answering: the model writes the answer, or marks it in the context",
            columns=(
                Column("question", "text", "what is asked", aliases=("query", "input")),
                Column("context", "text", "where the answer is to be found", required=False,
                       aliases=("passage", "document")),
                Column("answers", "answers", 'the answer as text, or SQuAD\'s {"text": [...], "answer_start": [...]}',
                       aliases=("answer", "response", "output", "ground_truth")),
            ),
            rendering="prompt",
            asked="question",
            metrics=("loss", "perplexity", "token_accuracy", "exact_match", "f1"),
            target="answers",
            reads=("question", "context"),
            encoder_decoder="source-target",
            prompt="Context: {context}\nQuestion: {question}\nAnswer:",
            whole=("question",),
            passage="context",
            encoder="span",
            pipeline_tag="question-answering",
        ),
        Task(
            name="translation",
            title="Translation: the model learns to write a text in another language",
            columns=(
                Column("source", "text", "the text to translate", aliases=("input", "text", "src", "prompt")),
                Column("target", "text", "its translation",
                       aliases=("translation", "output", "tgt", "completion", "ground_truth")),
            ),
            rendering="prompt",
            asked="source",
            told="translation",
            metrics=("loss", "perplexity", "token_accuracy", "bleu", "chrf"),
            target="target",
            reads=("source",),
            encoder_decoder="source-target",
            prompt="Translate the following text.\n\n{source}",
            pipeline_tag="translation",
        ),
        Task(
            name="summarization",
            title="Summarization: the model learns to say in short what a text says",
            columns=(
                Column("document", "text", "the text to summarize", aliases=("text", "article", "input", "dialogue")),
                Column("summary", "text", "what it says, in short",
                       aliases=("highlights", "output", "completion", "ground_truth")),
            ),
            rendering="prompt",
            asked="document",
            told="summary",
            metrics=("loss", "perplexity", "token_accuracy", "rouge1", "rouge2", "rougeL"),
            target="summary",
            reads=("document",),
            encoder_decoder="source-target",
            prompt="Summarize the following text.\n\n{document}",
            pipeline_tag="summarization",
        ),
        Task(
            name="text-classification",
            title="Classification: the model learns to tell what kind of text a text is",
            columns=(
                Column("text", "text", "the text, or the first of two",
                       aliases=("sentence", "sentence1", "premise", "question1", "review", "content", "message",
                                "comment", "document")),
                Column("text_pair", "text", "a second text, where two are told about together", required=False,
                       aliases=("sentence2", "hypothesis", "question2")),
                Column("label", "label", "what it is: a name, or a number", required=False,
                       aliases=("category", "class", "sentiment", "topic", "intent", "target")),
                Column("labels", "labels", "all that it is: a list of names or numbers, empty where it is none",
                       required=False, aliases=("categories", "topics", "classes")),
            ),
            rendering="class",
            long_rows="truncate",
            asked="text",
            told="label",
            metrics=("loss", "accuracy", "f1_macro", "f1_micro", "subset_accuracy"),
            forms=(("text", "label"), ("text", "labels")),
            target="label",
            reads=("text", "text_pair"),
            encoder="class",
            pipeline_tag="text-classification",
        ),
        Task(
            name="token-classification",
            title="Named entities: the model learns to tag each word",
            columns=(
                Column("tokens", "words", "the words of a text, a list", aliases=("words",)),
                Column("tags", "tags", "a tag for each word: B-PER, I-PER, O, ..., or their numbers",
                       aliases=("ner_tags", "pos_tags", "labels")),
            ),
            rendering="tag",
            long_rows="split",
            asked="text",
            told="row of tags",
            metrics=("loss", "accuracy", "precision", "recall", "f1"),
            target="tags",
            reads=("tokens",),
            encoder="tag",
            pipeline_tag="token-classification",
        ),
        Task(
            name="music-generation",
            title="Music: the model learns to write tunes in ABC notation",
            columns=(
                Column("prompt", "text", "what kind of tune is wanted",
                       aliases=("instruction", "input", "description")),
                Column("completion", "text", "the tune in ABC notation, from X: on",
                       aliases=("abc", "tune", "abc notation", "output")),
            ),
            rendering="prompt",
            told="tune",
            metrics=("loss", "perplexity", "token_accuracy", "abc_parses"),
            target="completion",
            reads=("prompt",),
            encoder_decoder="source-target",
            prompt="{prompt}",
        ),
        Task(
            name="svg-generation",
            title="Pictures: the model learns to draw as SVG",
            columns=(
                Column("prompt", "text", "what is to be seen",
                       aliases=("instruction", "input", "description", "caption")),
                Column("completion", "text", "the picture, a whole <svg>", aliases=("svg", "output")),
            ),
            rendering="prompt",
            told="picture",
            metrics=("loss", "perplexity", "token_accuracy", "svg_parses", "svg_draws"),
            target="completion",
            reads=("prompt",),
            encoder_decoder="source-target",
            prompt="{prompt}",
        ),
        Task(
            name="text-to-image",
            title="Painting: the model learns to paint what a caption says",
            columns=(
                Column("image", "image", "the picture: its file in base64, alone or as a data URL",
                       aliases=("picture",)),
                Column("text", "text", "what is to be seen on it", aliases=("caption", "prompt", "description")),
            ),
            rendering=None,
            diffusion="picture",
            long_rows="truncate",
            asked="caption",
            told="picture",
            metrics=("loss",),
            target="image",
            limits=(
                ("technique.name", ("lora", "full")),
                ("technique.init", ("default", "gaussian", "orthogonal")),
                ("technique.modules_to_save", ([],)),
                ("technique.layers", ([],)),
                ("distribution.strategy", ("none", "ddp")),
            ),
            pipeline_tag="text-to-image",
        ),
        Task(
            name="preference-tuning",
            title="Preference: the model learns to give the better of two answers (DPO)",
            columns=(
                Column("prompt", "prompt", "a text, or the messages up to the one that is answered",
                       aliases=("input", "question")),
                Column("chosen", "answer", "the better answer: a text, or an assistant's message",
                       aliases=("preferred_output",)),
                Column("rejected", "worse-answer", "the other answer", aliases=("non_preferred_output",)),
                Column("tools", "tools", "the functions the assistant may call, in OpenAI's format", required=False),
            ),
            rendering="pair",
            told="pair of answers",
            metrics=("loss", "reward_accuracy", "reward_margin"),
            target="chosen",
            # 5e-7 for full and 5e-6 for LoRA, a fortieth of what examples are learned at: TRL's guide
            # (peft_integration.md), and the DPO authors' rate for whole models (config/config.yaml; RMSprop).
            rate_divisor=40,
        ),
    )
}  # fmt: skip
