"""The table of data rules: every code that the data check can report, with its message, fix and reason.

The check names a code and fills in the blanks; the wording lives here alone. docs/data-checks.md is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from azft.findings import Finding, Severity

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong. `message` and `fix` are templates; `why` says what it would do to a training."""

    code: str
    severity: Severity
    message: str
    fix: str
    why: str


class Problem(NamedTuple):
    """A rule's code and the values for its template: what a checker yields, cheap to make and to send."""

    code: str
    values: Mapping[str, Any] = {}


# fmt: off
GROUPS: dict[str, tuple[Rule, ...]] = {
    "The file": (
        Rule("not-found", ERROR, "There is no such file.", "Check the path; it is relative to the recipe.",
             "Nothing can be read."),
        Rule("unreadable", ERROR, "The file can't be read: {reason}.", "{fix}",
             "A folder, a file without permission, or a disk error."),
        Rule("unknown-format", ERROR, "The name ends in `{suffix}`, which is not a format of rows.",
             "Use .jsonl, .json, .csv or .parquet.", "The ending says how a file is read."),
        Rule("compressed", ERROR, "The file is {kind}-compressed, whatever its name says.",
             "Unpack it first: {command}",
             "Azure's services take plain files only, and a range of a compressed file can't be read."),
        Rule("no-rows", ERROR, "The file has no row of data.", "Add at least one row.",
             "There is nothing to learn from."),
        Rule("few-rows", WARNING, "The file has only {rows}; Azure's fine-tuning service refuses fewer than {least}.",
             "Add rows. Local and cluster training run all the same.",
             "A hundred good rows are a sensible start; the services ask for ten."),
        Rule("same-file", WARNING, "This is the same file as the {other} data.",
             "Use other rows, or leave the key out: validation rows are then split off the training rows.",
             "A model is always good at what it has learned by heart, so the evaluation would say nothing."),
        Rule("split-off", INFO, "No validation data: about {percent} of the training rows are split off for it.",
             "Name a file in data.validation to choose them yourself.",
             "Chosen by content and seed, so the same rows on every machine and in any order."),
    ),
    "Bytes and encoding": (
        Rule("utf16", ERROR, "The file is UTF-16 or UTF-32, not UTF-8.",
             "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW", "JSON lines are UTF-8 by definition."),
        Rule("bom", WARNING, "The file begins with a byte order mark (EF BB BF).",
             "Save it as UTF-8 without BOM. azft skips it.", "Most JSON readers, and Azure's service, choke on it."),
        Rule("crlf", INFO, "Lines end in CR LF (Windows).", "Nothing to do; azft reads both.",
             "Harmless between rows. Inside a text it would be learned."),
        Rule("not-utf8", ERROR, "Byte {byte} ({value}) of the line is not UTF-8.", "Save the file as UTF-8.",
             "The text would be guessed at, and the model would learn the wrong guess."),
        Rule("line-too-long", ERROR, "The line has {bytes}, more than the {limit} that are read at once.",
             "Split the row. If rows are meant to be on lines of their own, a newline is missing.",
             "A line is held in memory whole, so its length has a limit."),
        Rule("mojibake", WARNING, "{where} holds `{sample}`, text that was decoded with the wrong encoding.",
             "Decode the source again as UTF-8; `{sample}` was probably `{guess}`.",
             "The model would learn to write â€™ for an apostrophe."),
        Rule("replacement-character", WARNING, "{where} holds U+FFFD (�), the trace of a character that was lost.",
             "Decode the source again with the encoding it was written in.",
             "The original character can't be recovered here."),
        Rule("control-character", WARNING, "{where} holds the control character {character}.",
             "Remove it, unless the model is meant to write it.",
             "NUL and its like come from broken exports; tokenizers turn them into rare tokens."),
    ),
    "JSON": (
        Rule("empty-line", WARNING, "The line is empty.", "Remove it. azft skips it.",
             "Azure's service refuses files with empty lines."),
        Rule("not-json", ERROR, "Not valid JSON: {reason}.", "{fix}", "The row can't be read."),
        Rule("not-object", ERROR, "A row is a JSON object, not {type}.", "Write {{\"{column}\": ...}} on each line.",
             "Columns have names."),
        Rule("too-deep", ERROR, "The JSON is nested too deeply to be read.", "Flatten the row.",
             "No chat is nested by hundreds of levels: this is a broken or hostile export."),
        Rule("lone-surrogate", ERROR, "The escape {escape} stands for half a character, without its other half.",
             "Write the character itself in UTF-8, or both halves of the pair.",
             "Half a character is no character; a text was cut in the middle of an emoji."),
        Rule("number-range", ERROR, "A number is too large for any JSON reader.", "Write it as text, in quotes.",
             "It would be read as infinity."),
        Rule("duplicate-key", ERROR, "The key `{key}` stands twice in one object.", "Keep one of them.",
             "Readers silently take the last one; which one was meant is anyone's guess."),
        Rule("not-array", ERROR, "A .json file holds one array of rows; this one begins with {found}.",
             "Wrap the rows in [ ], or name the file .jsonl if each line is a row.",
             "The ending says how a file is read."),
    ),
    "CSV and Parquet": (
        Rule("csv-header", ERROR, "The header {reason}.", "Give each column one name of its own in the first line.",
             "Columns are found by their names."),
        Rule("csv-separator", ERROR, "The columns are parted by {found}, not by commas.",
             "Save the file with commas, or as .jsonl or .parquet.",
             "Spreadsheets write semicolons where the comma is the decimal point; every column would be one."),
        Rule("csv-width", ERROR, "The row has {found}, the header has {expected}.",
             "Put cells that hold commas or line breaks in double quotes.", "Cells would land in the wrong column."),
        Rule("csv-broken", ERROR, "Not valid CSV: {reason}.", "Double the quotes inside a quoted cell.",
             "Nothing after this line can be read safely."),
        Rule("parquet-broken", ERROR, "Not a readable Parquet file: {reason}.", "Write the file again.",
             "A Parquet file's index is at its end: an interrupted download loses all of it."),
        Rule("cell-not-json", ERROR, "Column `{column}` holds text that is not JSON: {reason}.",
             "Write the {kind} as JSON text, as in a .jsonl file.", "A cell of a table carries a list as JSON text."),
    ),
    "Columns": (
        Rule("missing-column", ERROR, "Column `{column}` is missing. {found}", "{fix}",
             "The task can't do without it."),
        Rule("unknown-column", WARNING, "Column `{column}` is not one that the task reads.", "{fix}",
             "Usually harmless; sometimes a misspelt column whose content would be lost. Reported once a column."),
        Rule("columns-guessed", INFO, "Columns were taken for the task's by their names: {columns}.",
             "Write them into data.columns, if that is not what is meant.",
             "Data sets name the same thing in many ways."),
        Rule("prompt-answered", ERROR, "Column `{column}` ends with an assistant's turn.",
             "Let it end with what is to be answered, and put the answers into their own columns.",
             "There is nothing left to answer."),
        Rule("nothing-to-prefer", WARNING, "Both answers are the same.", "Remove the row.",
             "It teaches nothing, and costs as much as any other."),
        Rule("answer-starts", ERROR, "Column `{column}`: answer_start needs a whole number for each of {texts} texts.",
             "Write as many starts as texts, or no answer_start at all.",
             "Which start belongs to which text is anyone's guess."),
        Rule("answer-elsewhere", WARNING, "Column `{column}`: {answer} is not in the context at character {start}.",
             "Correct answer_start (characters from 0), or leave it out.",
             "A model that marks the answer would learn the wrong place; one that writes it learns all the same."),
        Rule("empty-text", ERROR, "Column `{column}` is empty.", "Write the text, or remove the row.",
             "There is nothing to learn from it."),
        Rule("wrong-type", ERROR, "{where} is {found}, not {expected}.", "Write it as {expected}.",
             "Chat templates paste text; anything else is rendered as Python would print it, or fails."),
    ),
    "Converting": (
        Rule("not-convertible", ERROR, "The row can't be read as {format}: {reason}.", "{fix}",
             "`azft convert` writes every row or none: none is lost unseen. --skip-errors leaves such rows out."),
        Rule("left-out", INFO, "Column `{column}` is left out.", "Nothing to do, if it is not meant to be learned.",
             "The task has no column for it. Reported once a column."),
    ),
    "Labels": (
        Rule("label-twice", WARNING, "Column `{column}` has `{label}` twice.", "Keep one of them.",
             "A row has a label or has it not."),
        Rule("unknown-label", ERROR, "`{label}` is none of the labels in data.labels; it is in {rows}, this one first.",
             "{fix}", "The model's head has a place for each label that the recipe names, and for no other."),
        Rule("label-not-trained", ERROR,
             "The label `{label}` is in no training row, but in {rows} here, this one first.",
             "Add training rows with it, or remove these.",
             "The model can't tell what it has never been told. Labels in data.labels are only warned about."),
        Rule("label-unused", WARNING, "No training row has the label `{label}` of data.labels.",
             "Add rows with it, or take it off the list.", "The model never learns when it is right."),
        Rule("one-label", ERROR, "Every training row has the same label, `{label}`.", "Add rows that have another one.",
             "There is nothing to tell apart: the model would learn to say `{label}` to everything."),
        Rule("label-imbalance", WARNING, "`{rare}` is the label of {few} training rows, `{common}` of {many}.",
             "Add rows of the rarer kind, and look at f1_macro rather than at the accuracy.",
             "Whoever always says the commonest label is right nearly always, and has learned nothing."),
        Rule("labels-alike", WARNING, "The labels `{one}` and `{other}` differ by case or spaces only.",
             "Spell them alike, if they are one label.", "The model would learn to tell typing habits apart."),
        Rule("many-labels", WARNING, "The {rows} training rows have {labels} different labels.",
             "Is it the right column? Name another one in data.columns.",
             "With hardly two rows to a label there is nothing to generalise from; other tasks learn free text."),
        Rule("no-entity", ERROR, "Every word of the training rows has the tag O.", "Add rows with other tags.",
             "There is nothing to find."),
        Rule("empty-word", ERROR, "Column `{column}`: word {number} is empty.", "Remove it and its tag.",
             "No token stands for it, so nothing could be told about it."),
        Rule("tags-length", ERROR, "Column `{column}` has {tags} tags for {words} words.", "Write a tag for each word.",
             "Which tag belongs to which word is anyone's guess."),
        Rule("tag-order", WARNING, "Column `{column}`: tag {number} is `{tag}`, but the one before it is `{before}`.",
             "Begin each entity with B-, as IOB2 does.",
             "It is read as the beginning of an entity, which IOB2 writes as B-."),
    ),
    "Pictures": (
        Rule("image-elsewhere", ERROR, "Column `{column}` names a picture that is elsewhere: {reason}.",
             "Write the pictures into the rows: azft convert FILE NEW.jsonl --from pictures --columns "
             "file_name={column}",
             "Rows carry their pictures in base64: so the file is all there is of the data, here and in Azure."),
        Rule("image-not-base64", ERROR, "Column `{column}` is not base64: {reason}.",
             "Write the picture's file in base64, alone or as data:image/png;base64,...", "It can't be read."),
        Rule("image-broken", ERROR, "Column `{column}` is no picture that can be read: {reason}.",
             "Write the file again as PNG, JPEG or WebP, or remove the row.",
             "A download that was cut off ends in the middle of a picture."),
        Rule("image-small", WARNING, "The picture in `{column}` has {width} x {height} pixels, too few.",
             "Take one of {least} a side at least.", "It is enlarged to the model's size, and the blur is learned."),
        Rule("image-frames", WARNING, "The picture in `{column}` has {frames} frames.", "Keep one of them.",
             "Only the first frame of a moving picture is learned."),
        Rule("image-transparent", WARNING, "The picture in `{column}` is transparent.",
             "Lay it on the background that is wanted.", "It is laid on white; the model paints no transparency."),
    ),
    "Messages": (
        Rule("no-messages", ERROR, "The list of messages is empty.", "Add the turns, or remove the row.",
             "There is nothing to learn."),
        Rule("missing-role", ERROR, "Message {turn} has no `role`.", "{fix}", "Templates render by role."),
        Rule("unknown-role", ERROR, "Message {turn} has the role {role}.", "{fix}",
             "Templates know system, user, assistant and tool; others are dropped or fail."),
        Rule("unknown-key", WARNING, "Message {turn} has the key `{key}`, which nothing reads.", "{fix}",
             "Usually harmless; sometimes a misspelt key whose content would be lost."),
        Rule("missing-content", ERROR, "Message {turn} ({role}) has no `content`.", "Add it, or remove the message.",
             "Only an assistant turn that calls tools may be without text."),
        Rule("empty-content", ERROR, "Message {turn} ({role}) is empty.", "Write the text, or remove the message.",
             "An empty assistant turn teaches the model to say nothing."),
        Rule("content-part", ERROR, "Message {turn}: part {part} of the content {reason}.",
             'Write parts as {{"type": "text", "text": "..."}}, or the content as plain text.',
             "Only text can be learned by this task."),
        Rule("no-assistant", ERROR, "There is no assistant turn.", "Add the answer that the model should learn.",
             "The loss covers assistant turns only: the row would teach nothing."),
        Rule("last-not-assistant", ERROR, "The conversation ends with a {role} turn.",
             "End it with the assistant's answer, or cut the last turn off.",
             "Whatever follows the last assistant turn is never learned; Azure's service refuses such rows."),
        Rule("assistant-first", WARNING, "The assistant speaks before the user has.", "Begin with a user turn.",
             "Many templates refuse it, and a served model never begins a conversation."),
        Rule("repeated-role", WARNING, "Messages {previous} and {turn} are both {role} turns.",
             "Join them into one, or add the turn that is missing between them.",
             "Templates of Mistral's and Gemma's kind refuse it; others render what the model never sees when served."),
        Rule("late-system", WARNING, "Message {turn} is a system turn that is not the first message.",
             "Move it to the front.", "Many templates drop it or refuse the row."),
        Rule("repeated-turn", WARNING, "Messages {previous} and {turn} ({role}) have the same text.",
             "Remove one, unless the conversation really went that way.",
             "Typical of an export that joined a thread twice."),
        Rule("bad-weight", ERROR, "Message {turn} has the weight {value}.", "Use 0 (not learned) or 1 (learned).",
             "Azure's service takes whole 0 and 1 only."),
        Rule("weight-on-other", ERROR, "Message {turn} ({role}) has a weight.", "Only assistant turns may have one.",
             "Other turns are never learned."),
        Rule("nothing-to-learn", ERROR, "Every assistant turn has weight 0.",
             "Give one of them weight 1, or remove the row.",
             "The row would cost time and teach nothing."),
    ),
    "Tools": (
        Rule("tool-call", ERROR, "Message {turn}: {reason}.",
             'Write tool_calls as [{{"id": "...", "type": "function", "function": {{"name": "...", '
             '"arguments": "{{...}}"}}}}].',
             "Templates render name and arguments from exactly this form."),
        Rule("tool-arguments", ERROR, "Message {turn}: the arguments of `{name}` are not {expected}: {reason}.",
             "Write the arguments as text that is a JSON object.",
             "The model would learn to write calls that can't be parsed."),
        Rule("tool-call-id-reused", ERROR, "Message {turn}: the tool call id `{id}` was used before.",
             "Give each call of a conversation an id of its own.", "Answers could not be told apart."),
        Rule("tool-answer-unknown", ERROR, "Message {turn}: {reason}.",
             "Set tool_call_id to the id of an earlier call.",
             "An answer without its question teaches the model to invent."),
        Rule("tool-call-unanswered", WARNING, "Message {turn}: the tool call `{id}` is never answered.",
             "Add the tool turn with its result after the call.",
             "Serving always answers; templates may refuse the row."),
        Rule("tool-undefined", WARNING, "Message {turn} calls `{name}`, which {reason}.",
             "Describe the function in `tools`.",
             "The model would learn to call functions that nobody told it of."),
        Rule("tools-malformed", ERROR, "Column `{column}`: {reason}.",
             'Write tools as [{{"type": "function", "function": {{"name": "...", "parameters": {{...}}}}}}].',
             "Templates render the functions from exactly this form."),
        Rule("tool-name-repeated", ERROR, "Column `{column}` describes `{name}` twice.", "Keep one of them.",
             "Which one a call means is anyone's guess."),
    ),
    "Length": (
        Rule("long-row", WARNING, "The row has {tokens} tokens, more than the {limit} of {source}: it {fate}.",
             "Raise training.max_length, shorten the row, or choose another data.long_rows.",
             "What does not fit into a sequence can't be learned in one piece."),
        Rule("row-too-long", ERROR, "The row has {tokens} tokens, more than the {limit} of {source}.",
             "Raise training.max_length, shorten the row, or set data.long_rows to drop, truncate or split.",
             "data.long_rows is `error`, so long rows stop the run."),
        Rule("not-renderable", ERROR, "The model's chat template refuses the row: {reason}.", "{fix}",
             "Templates hold rules of their own about roles and their order."),
        Rule("lengths-unchecked", INFO, "Row lengths were not checked: the model's tokenizer is not on this machine.",
             "Make the model available, or wait for the prepare step, which counts them.",
             "Lengths are counted with the model's own tokenizer."),
    ),
    "Between rows": (
        Rule("duplicate-row", WARNING, "The row is the same as line {line}'s.", "Remove one of them.",
             "It counts double, and may fall into both training and validation data."),
        Rule("conflicting-answers", WARNING, "The {asked} is line {line}'s{but}, with another {told}.",
             "Keep the better one, unless several are meant to be right.",
             "The model learns the average of answers that contradict each other."),
        Rule("leak", WARNING, "The row is also in the {other} data, on line {line}.", "Remove it from one of the two.",
             "The evaluation would measure memory instead of skill."),
        Rule("prompt-leak",
             WARNING, "The {asked} is also in the {other} data{but}, on line {line}, with another {told}.",
             "Remove it from one of the two.", "The evaluation is no longer held out."),
        Rule("near-duplicate", WARNING, "{similarity} as line {line}'s.",
             "Keep one of them, unless the difference matters.", "Near copies count like copies."),
        Rule("near-leak", WARNING, "{similarity} as line {line} of the {other} data.",
             "Remove it from one of the two.", "The evaluation would measure memory instead of skill."),
        Rule("near-prompt-leak", WARNING, "{similarity} as on line {line} of the {other} data, with another {told}.",
             "Remove it from one of the two.", "The evaluation is hardly held out."),
        Rule("near-capped", INFO, "The comparison of near-duplicates stopped after {pairs} candidate pairs.",
             "Remove the near-duplicates found so far, then check again.", "Each comparison reads two rows again."),
    ),
}
# fmt: on

RULES: dict[str, Rule] = {rule.code: rule for rules in GROUPS.values() for rule in rules}
PREFIX = "data-"
_SHOWN = 80
_SHOWN_FIX = 300


def shown(value: Any, limit: int = _SHOWN) -> str:
    """A value as one short printable line: control characters and surrogates escaped, long text cut in the middle."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit * 4:
        text = text[: limit * 2] + text[-limit:]
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else f"{text[: limit - 30]}...{text[-27:]}"


def shown_values(problem: Problem) -> dict[str, str]:
    """A problem's values as they are put into messages: printable, and too short to hold on to a row."""
    return {
        key: shown(value, _SHOWN_FIX if key in {"fix", "found"} else _SHOWN) for key, value in problem.values.items()
    }


def finding(problem: Problem, file: str | None, line: int | None) -> Finding:
    """The finding that a problem at a place makes."""
    rule = RULES[problem.code]
    values = shown_values(problem)
    message = rule.message.format_map(values).strip()
    return Finding(PREFIX + rule.code, rule.severity, message, rule.fix.format_map(values).strip(), file, line)
