"""Files of which a row is not simply a line: SQuAD's nested JSON, and CoNLL's token a line, pictures beside."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from azft.data.foreign_pictures import NAME
from azft.data.formats import look_at
from azft.data.json_faults import decode
from azft.data.readers import Fault, Row, read_items
from azft.data.rules import Problem
from azft.data.values import kind_of

CONLL_ENDINGS = {".conll", ".conllu", ".conll03", ".iob", ".iob2", ".bio"}
_CONLLU_FIELDS = 10
"""CoNLL-U's columns: ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC (universaldependencies.org, version 2)."""
_COMMENT = re.compile(r"# ?(\S+ ?= |newdoc|newpar)")
"""CoNLL-U's comments, which stand before a sentence; a # alone may be a token."""
_CHUNK = re.compile(r"([BIES])-(.+)", re.DOTALL)


def squad_rows(path: Path) -> Iterator[Row | Fault]:
    """A question a row, from SQuAD's nested file or from flat rows. A nested file is one JSON value, and read whole."""
    if not is_nested_json(path):
        yield from read_items(path)
        return
    value, fault = decode(path.read_bytes())
    if fault is not None:
        yield Fault(fault, None)
        return
    number = 0
    for article in _list(value, "data"):
        for paragraph in _list(article, "paragraphs"):
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            for asked in _list(paragraph, "qas"):
                number += 1
                if isinstance(asked, dict):
                    yield Row(number, {**asked, "context": context})
                else:
                    yield Fault(Problem("not-object", {"type": kind_of(asked), "column": "question"}), number)


def is_nested_json(path: Path) -> bool:
    """Whether a .json file holds one object in the place of an array of rows."""
    if path.suffix.lower() != ".json" or look_at(path) is not None:
        return False
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def conll_rows(path: Path, *, token: int | None = None, tag: int | None = None) -> Iterator[Row | Fault]:
    """A sentence a row: {tokens, tags}, with the line it begins on.

    `token` and `tag` are numbers of the file's columns from 1, or negative from the end; by default the first and the
    last, in CoNLL-U the form and the universal part of speech. A chunk that begins with I- (IOB1, the form of CoNLL
    2003) begins with B- afterwards, which changes nothing about which tokens belong together.
    """
    tokens: list[str] = []
    tags: list[str] = []
    begins = 1
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                values = {"byte": error.start + 1, "value": f"0x{raw[error.start]:02X}"}
                yield Fault(Problem("not-utf8", values), number)
                continue
            if not line.strip() or line.startswith("-DOCSTART-"):
                if tokens:
                    yield Row(begins, {"tokens": tokens, "tags": iob2(tags)})
                tokens, tags = [], []
                continue
            fields = line.split("\t") if "\t" in line else line.split()
            conllu = len(fields) == _CONLLU_FIELDS and re.match(r"\d+([-.]\d+)?$", fields[0])
            if conllu and not fields[0].isdigit():  # a contraction's whole, or a word that isn't there
                continue
            if not tokens and _COMMENT.match(line):
                continue
            if not tokens:
                begins = number
            first, last = (2, 4) if conllu else (1, -1)
            cells = [_cell(fields, token or first), _cell(fields, tag or last)]
            if len(fields) < 2 or None in cells:
                reason = f"the line has {len(fields)} columns" if len(fields) != 1 else "the line has one column only"
                fix = "Write a token and its tag on each line, or say which columns they are: --columns tokens=1"
                yield Fault(Problem("not-convertible", {"format": "conll", "reason": reason, "fix": fix}), number)
                continue
            tokens.append(str(cells[0]))
            tags.append(str(cells[1]))
    if tokens:
        yield Row(begins, {"tokens": tokens, "tags": iob2(tags)})


def picture_rows(path: Path, names: Mapping[str, str]) -> Iterator[Row | Fault]:
    """The rows of a file, with each picture's bytes in base64 in the place of its name, relative to the file."""
    column = names.get(NAME, NAME)
    for item in read_items(path):
        if isinstance(item, Fault) or not isinstance(item.data.get(column), str):
            yield item
            continue
        picture = path.parent / item.data[column]
        try:
            data = picture.read_bytes()
        except OSError as error:
            reason = f"{item.data[column]} can't be read ({error.strerror})"
            values = {"format": "pictures", "reason": reason, "fix": f"Names are relative to {path.name}'s folder."}
            yield Fault(Problem("not-convertible", values), item.line)
            continue
        yield Row(item.line, {**item.data, column: base64.b64encode(data).decode()})


def iob2(tags: list[str]) -> list[str]:
    """Tags in which each chunk begins with B- (or S-). I- after no chunk of its kind begins one (conlleval)."""
    result = []
    before: tuple[str, str] | None = None
    for tag in tags:
        chunk = _CHUNK.fullmatch(tag)
        now = (chunk[1], chunk[2]) if chunk else None
        orphan = now is not None and now[0] == "I" and (before is None or before[1] != now[1] or before[0] in "ES")
        result.append(f"B-{now[1]}" if orphan and now is not None else tag)
        before = now
    return result


def _cell(fields: list[str], number: int) -> str | None:
    index = number - 1 if number > 0 else number
    return fields[index] if -len(fields) <= index < len(fields) and fields[index] else None


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
