"""Reads the packages of scripts/build_dataset.py: the files of one package in, rows of a task out. No network here."""

from __future__ import annotations

import email
import email.policy
import gzip
import html
import json
import re
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from typing import Any

import yaml

Files = Mapping[str, bytes]
Rows = Iterator[dict[str, Any]]

LONGEST_MAIL = 4000
"""Characters of a mail that are kept; what is beyond is mostly attachments and quoted digests."""
SHORTEST_BODY = 30
"""Words of a mail that has something to sum up."""
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
LONGEST_SENTENCE, SHORTEST_SENTENCE = 60, 3
LONGEST_PAGE, LONGEST_ENTRY = 5, 4
"""Meanings on a page of the dictionary, and of a word on it."""
LONGEST_MEANING, LONGEST_EXAMPLE = 20, 30
"""Words. What a model marks has 30 tokens at most."""

# Coarse parts of speech after Petrov, Das and McDonald (2012), by the first tag of a word that the Brown corpus gives
# (its manual, Francis and Kucera 1979). The longest name that begins the tag decides.
COARSE = {
    "n": "NOUN", "v": "VERB", "be": "VERB", "do": "VERB", "hv": "VERB", "md": "VERB", "j": "ADJ", "od": "ADJ",
    "rb": "ADV", "rn": "ADV", "wrb": "ADV", "ql": "ADV", "wql": "ADV", "*": "ADV", "rp": "PRT", "to": "PRT",
    "pp": "PRON", "pn": "PRON", "wp": "PRON", "ex": "PRON", "at": "DET", "dt": "DET", "ab": "DET", "ap": "DET",
    "wdt": "DET", "cd": "NUM", "cc": "CONJ", "cs": "CONJ", "in": "ADP", "uh": "X", "fw": "X", "nil": "X",
    ".": ".", ",": ".", ":": ".", "(": ".", ")": ".", "``": ".", "''": ".", "'": ".", "--": ".",
}  # fmt: skip


def chats(files: Files) -> Rows:
    """ChatterBot's conversations: a list of lists of turns, the user's first."""
    for name in sorted(files):
        for turns in yaml.safe_load(files[name]).get("conversations", []):
            texts = [str(turn).strip() for turn in turns]
            texts = texts[: len(texts) // 2 * 2]  # the last turn is the assistant's
            if texts and all(texts):
                roles = ("user", "assistant")
                yield {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]}


def preferences(files: Files) -> Rows:
    """ChatterBot's first questions: the answer that stands there, before the answer to another question of the file.

    Nobody was asked what they prefer: what a row says is that an answer should be one to its question.
    """
    for name in sorted(files):
        rows = [row["messages"] for row in chats({name: files[name]})]
        for number, (question, answer, *_) in enumerate(rows):
            others = (row[1] for row in rows[number + 1 :] + rows[:number] if row[0]["content"] != question["content"])
            if other := next((turn for turn in others if turn["content"] != answer["content"]), None):
                yield {"prompt": question["content"], "chosen": answer["content"], "rejected": other["content"]}


def subjects(files: Files) -> Rows:
    """SpamAssassin's mails that are no spam: what a mail says, and the subject that its writer gave it.

    Answers are left out, whose subject is another mail's, and so are the marks of mailing lists and what is quoted.
    """
    for row in mails(files):
        subject, _, body = row["text"].partition("\n\n")
        subject = re.sub(r"^(\s*(\[[^]]*\]|fwd?:))+\s*", "", subject, flags=re.IGNORECASE)
        lines = [line for line in body.split("\n") if not line.startswith(">")]
        document = re.sub(r"\n{3,}", "\n\n", "\n".join(lines).partition("\n--\n")[0]).strip()
        fits = 3 <= len(subject.split()) <= 15 and len(document.split()) >= SHORTEST_BODY
        if row["label"] == "ham" and fits and not re.match(r"re\b", subject, re.IGNORECASE):
            yield {"document": document, "summary": subject}


def mails(files: Files) -> Rows:
    """SpamAssassin's mails: subject and text, spam or ham by the folder."""
    for name in sorted(files):
        message = email.message_from_bytes(files[name], policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        text = mail_text(message)
        if text:
            yield {"text": text[:LONGEST_MAIL].rstrip(), "label": "spam" if "/spam" in name else "ham"}


def mail_text(message: EmailMessage) -> str:
    """Subject and body as one text. Mails of spammers are broken in every way; what can't be decoded is left out."""
    try:
        subject = " ".join(str(message["subject"] or "").split())
        body = message.get_body(("plain", "html"))
        content = body.get_payload(decode=True) if body is not None else None
        if not isinstance(content, bytes) or body is None:
            return ""
        text = decoded(content, body.get_content_charset() or "")
        if body.get_content_type() == "text/html":
            text = without_markup(text)
    except (LookupError, ValueError, AttributeError, TypeError, IndexError, KeyError):
        return ""
    lines = [" ".join(line.split()) for line in f"{subject}\n\n{text}".split("\n")]
    return re.sub(r"\n{3,}", "\n\n", UNPRINTABLE.sub("", "\n".join(lines))).strip()


def decoded(content: bytes, charset: str) -> str:
    """UTF-8 where it can be, whatever the mail says; then what it says, and Windows' Latin for what Latin it says."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        latin = charset.lower() in {"", "us-ascii", "ascii", "iso-8859-1", "default", "unknown-8bit", "utf-8"}
        return content.decode("cp1252" if latin else charset, "replace")


def without_markup(text: str) -> str:
    """The words of an HTML text."""
    text = re.sub(r"(?is)<(script|style|head|title)\b.*?</\1\s*>|<!--.*?-->", " ", text)
    text = re.sub(r"(?i)<(br|/?p|/?div|/?tr|/?li|/?h[1-6])\b[^>]*>", "\n", text)
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


def tagged_sentences(files: Files) -> Rows:
    """The Brown corpus, a sentence a row, with coarse parts of speech."""
    for name in sorted(files):
        for line in files[name].decode("utf-8").splitlines():
            pairs = [pair.rpartition("/") for pair in line.split()]
            if SHORTEST_SENTENCE <= len(pairs) <= LONGEST_SENTENCE and all(word and tag for word, _, tag in pairs):
                yield {"tokens": [word for word, _, _ in pairs], "tags": [coarse(tag) for _, _, tag in pairs]}


def coarse(tag: str) -> str:
    """The coarse part of speech of a Brown tag such as nn-tl, fw-nn or ppss+bez*."""
    fitting = [name for name in COARSE if tag.startswith(name)]
    return COARSE[max(fitting, key=len)] if fitting else "X"


def translations(files: Files) -> Rows:
    """Messages of gettext's .po files with their translations."""
    for name in sorted(files):
        for source, target in po_pairs(files[name].decode("utf-8")):
            if source.strip() and target.strip() and source != target:
                yield {"source": source.strip(), "target": target.strip()}


def po_pairs(text: str) -> Iterator[tuple[str, str]]:
    """(msgid, msgstr) of a .po file, the singular where there is a plural; fuzzy, obsolete and header entries apart."""
    for entry in re.split(r"\n\s*\n", text):
        lines = entry.splitlines()
        if any(line.startswith("#,") and "fuzzy" in line for line in lines):
            continue
        fields: dict[str, str] = {}
        name = ""
        for line in lines:
            if match := re.match(r'(msgctxt|msgid|msgid_plural|msgstr(?:\[\d\])?) (".*")$', line):
                name = match[1]
                fields[name] = po_text(match[2])
            elif name and line.startswith('"'):
                fields[name] += po_text(line)
        target = fields.get("msgstr", fields.get("msgstr[0]", ""))
        if fields.get("msgid"):
            yield fields["msgid"], target


def po_text(quoted: str) -> str:
    """The text of a quoted line: C's escapes."""
    escapes = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), quoted.strip()[1:-1])


def tunes(files: Files) -> Rows:
    """ABC tunes: title, rhythm and key are asked for, the whole tune is learned."""
    for name in sorted(files):
        text = files[name].decode("utf-8", "replace").replace("\r\n", "\n")
        for tune in re.split(r"(?m)^(?=X:)", text):
            row = tune_row(tune)
            if row is not None:
                yield row


def tune_row(tune: str) -> dict[str, Any] | None:
    """One tune without bowings, fingerings, sources and comments; None for what is not one.

    In its header stand title, rhythm, metre, unit and key, in this order; the key ends it, as the standard has it (ABC
    2.1, section 3).
    """
    header: dict[str, str] = {}
    notes: list[str] = []
    for line in tune.splitlines():
        plain = re.sub(r"%.*", "", line).rstrip()
        if field := re.match(r"([A-Za-z]):\s*(.*)", plain):
            if "K" not in header:
                header.setdefault(field[1], field[2].strip())
            elif field[1] in "KML":
                notes.append(f"[{field[1]}:{field[2].strip()}]")
        elif "K" in header and plain.strip():
            notes.append(plain)
    body = "\n".join(notes).replace("\\\n", "")
    # Texts over the notes, decorations (ABC 2.1, section 4.14: the letters H to W and h to w, ~) and what is reserved.
    body = re.sub(r'(\[[A-Z]:[^]\n]*\])|"[^"\n]*"|![^!\n]*!|[H-WYh-wy~`*+]', lambda match: match[1] or "", body)
    body = re.sub(r"[^\S\n]+", " ", body).strip()
    if not body or not all(header.get(name) for name in "TMK") or "\ufffd" in body + header["T"]:
        return None
    header.setdefault("L", "1/8")
    kept = [f"{name}:{header[name]}" for name in "TRMLK" if header.get(name)]
    lines = [line.strip() for line in body.split("\n")]
    rhythm = header.get("R", "tune").lower()
    article = "an" if rhythm[:1] in "aeiou" else "a"
    prompt = f"Write {article} {rhythm} in {header['K']}, metre {header['M']}, called {header['T']}."
    return {"prompt": prompt, "completion": "\n".join(["X:1", *kept, *lines])}


def icons(files: Files) -> Rows:
    """Lucide's icons: name and tags are asked for, the picture is learned, as it stands but for comment and class."""
    contents = {name.rpartition("/")[2]: content for name, content in files.items()}
    tags = json.loads(contents.pop("tags.json"))
    for name in sorted(contents):
        title = name.removesuffix(".svg")
        picture = re.sub(r"<!--.*?-->|\sclass=\"[^\"]*\"", "", contents[name].decode("utf-8"), flags=re.DOTALL)
        picture = re.sub(r"\s+", " ", picture).replace(" >", ">").replace("> <", "><").strip()
        if title in tags:
            about = f" ({', '.join(tags[title])})" if tags[title] else ""
            yield {"prompt": f"Draw an icon: {title.replace('-', ' ')}{about}.", "completion": picture}


POS = {"noun": "a noun", "verb": "a verb", "adj": "an adjective", "adv": "an adverb"}


def definitions(files: Files) -> Rows:
    """WordNet: what a word means, by the gloss of its commonest sense.

    Only words that its makers met in tagged texts (index files, `tagsense_cnt`; wndb(5WN)).
    """
    for word, kind, tagged, glosses in wordnet(files):
        meaning = re.sub(r"^\((?:[^()]*)\)\s*", "", meaning_of(glosses[0]))
        if tagged and 3 <= len(meaning.split()) <= 25:
            yield {"question": f'What does "{word}" mean as {POS[kind]}?', "answers": meaning}


def senses(files: Files) -> Rows:
    """WordNet: what a word means in an example, marked on a page of the dictionary, where other words stand as well.

    Examples are the lexicographers' own, and stand with the meaning that they show; the page is without them. Only
    words that they met in tagged texts are on it, in the alphabet's order, with all their meanings.
    """
    entries: dict[str, list[tuple[str, str]]] = {}
    common: set[str] = set()
    for word, kind, tagged, glosses in wordnet(files):
        entries.setdefault(word, []).extend((kind, gloss) for gloss in glosses)
        if tagged:
            common.add(word)
    page: list[tuple[str, str, str]] = []
    for word in sorted(common):
        entry = [(word, kind, gloss) for kind, gloss in entries[word]]
        if len(entry) > LONGEST_ENTRY or len(set(map(meaning_of, (gloss for *_, gloss in entry)))) < len(entry):
            continue
        if len(page) + len(entry) > LONGEST_PAGE:
            yield from questions(page)
            page = []
        page += entry
    yield from questions(page)


def questions(page: list[tuple[str, str, str]]) -> Rows:
    """A question for each example of a page, whose lines are word, part of speech and gloss."""
    heads = [f"{word}, {kind}: " for word, kind, _ in page]
    meanings = [meaning_of(gloss) for *_, gloss in page]
    lines = [head + meaning for head, meaning in zip(heads, meanings, strict=True)]
    shown = [(word, examples_of(gloss, word)) for word, _, gloss in page]
    for number, (word, examples) in enumerate(shown):
        elsewhere = {said for other in shown[:number] + shown[number + 1 :] for said in other[1] if other[0] == word}
        start = len("\n".join([*lines[:number], heads[number]]))
        for example in examples:
            if example not in elsewhere and len(meanings[number].split()) <= LONGEST_MEANING:
                yield {
                    "question": f'What does "{word}" mean in "{example}"?',
                    "context": "\n".join(lines),
                    "answers": {"text": [meanings[number]], "answer_start": [start]},
                }


def examples_of(gloss: str, word: str) -> list[str]:
    """The examples of a gloss in which a word stands, not those of its synonyms."""
    examples = [said for said in re.findall(r'; "([^"]*)"', gloss) if 3 <= len(said.split()) <= LONGEST_EXAMPLE]
    return [said for said in examples if inflections(word) & set(re.findall(r"[a-z]+", said.lower()))]


def inflections(word: str) -> set[str]:
    """The regular forms of an English word, and some that are none."""
    forms = {word, *(word + end for end in ("s", "es", "ed", "ing", word[-1] + "ed", word[-1] + "ing"))}
    if word.endswith("e"):
        forms |= {word + "d", word[:-1] + "ing"}
    if word.endswith("y"):
        forms |= {word[:-1] + "ies", word[:-1] + "ied"}
    return forms


def wordnet(files: Files) -> Iterator[tuple[str, str, int, list[str]]]:
    """Single words: the word, its kind (POS), how many senses were met in tagged texts, all glosses (wndb(5WN))."""
    contents = {name.rpartition("/")[2]: content for name, content in files.items()}
    for kind in POS:
        data = contents[f"data.{kind}"]
        for line in contents[f"index.{kind}"].decode("ascii").splitlines():
            fields = line.split()
            if line.startswith(" ") or not re.fullmatch(r"[a-z]{3,}", fields[0]):
                continue
            pointers = int(fields[3])
            starts = [int(field) for field in fields[6 + pointers :]]
            glosses = [data[start : data.index(b"\n", start)].decode("utf-8").partition(" | ")[2] for start in starts]
            yield fields[0], kind, int(fields[5 + pointers]), [gloss.strip() for gloss in glosses]


def meaning_of(gloss: str) -> str:
    """A gloss without its examples."""
    return gloss.partition('; "')[0].strip()


def programs(files: Files) -> Rows:
    """HumanEval: the head of a function with its docstring, and a body that passes its tests."""
    (packed,) = files.values()
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        task = json.loads(line)
        yield {"prompt": task["prompt"], "completion": task["canonical_solution"].rstrip() + "\n"}
