"""Writes the example rows of azft/templates/text-classification and token-classification: mail to a bakery.

All text is made up here. Run it with: python scripts/make_example_labels.py. A test compares the files with it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COUNTS = {"train": 84, "validation": 16, "test": 24}
TEMPLATES = Path(__file__).parent.parent / "azft" / "templates"
SEED = 7
_ALIKE = 0.7
"""Rows that share more of their words would be reported as near-duplicates."""

GOODS = (
    "rye loaf", "walnut bread", "poppy seed roll", "apple strudel", "cinnamon bun", "cheesecake", "pretzel",
    "plum cake", "spelt baguette", "butter croissant", "almond biscuit", "sourdough loaf",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COUNTED = ("two", "three", "four", "six", "ten", "twelve")
PEOPLE = (
    "Anna", "Mr Berg", "Jonas Keller", "Mrs Okafor", "Lena", "Dr Silva", "Paul Winter", "Aunt Rosa", "Miriam",
    "Tom Adler",
)  # fmt: skip

MAIL = {
    "order": (
        "Please put aside {n} pieces of {g} for {d}.",
        "I would like to order {n} times {g}, to be picked up on {d}.",
        "Could you bake {n} of your {g} for our party on {d}?",
        "Reserve one {g} under the name Berg, please, for {d} morning.",
        "We need {n} {g} pieces delivered on {d}.",
        "Put me down for {n} more {g}, I will collect them on {d}.",
        "I'd like {n} {g} for {d}, sliced if you can.",
    ),
    "question": (
        "Are you open on {d}?",
        "Does the {g} contain nuts?",
        "What time do you close on {d}?",
        "How long does the {g} keep?",
        "Is there still {g} to be had on {d} afternoon?",
        "Which flour is in the {g}?",
        "How much is one {g}?",
        "Where can I park near the shop on {d}?",
    ),
    "complaint": (
        "The {g} I bought on {d} was burnt underneath.",
        "On {d} I waited twenty minutes and then the {g} was sold out.",
        "My {g} was stale, and nobody said sorry.",
        "You charged me twice for one {g} on {d}.",
        "There was a hair in the {g}, which was disgusting.",
        "The {g} from {d} was dry and far too sweet.",
        "Wrong order again: I paid for {n} {g} and got one.",
        "The woman at the counter was rude to me on {d}.",
    ),
    "praise": (
        "Best {g} in town, thank you!",
        "The {g} on {d} was wonderful, my children loved it.",
        "What a friendly team, and the {g} is a dream.",
        "I have never had a better {g} than yours.",
        "Everybody at the party asked where the {g} came from. Great work!",
        "Thank you for the lovely {g} on {d}, it made our day.",
        "The new {g} is perfect: crisp outside, soft inside.",
        "Wonderful shop, warm people, excellent {g}.",
    ),
}
NOTES = (
    "{P} ordered {n} {G} for {D} .",
    "On {D} , {P} will collect the {G} .",
    "Please keep a {G} for {P} until {D} .",
    "{P} says the {G} was too dry .",
    "The {G} for {P} is ready .",
    "Ask {P} whether we have {G} on {D} .",
    "{P} and {Q} share one {G} .",
    "No {G} on {D} , says {P} .",
    "Tell {P} that {Q} has paid for the {G} .",
    "Is the {G} gone ? {P} came by on {D} .",
    "{n} boxes of {G} go to {P} .",
)


def mail(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Mails, each with what it is."""
    while True:
        for label, sentences in MAIL.items():
            text = rng.choice(sentences).format(g=rng.choice(GOODS), d=rng.choice(DAYS), n=rng.choice(COUNTED))
            yield {"text": text, "label": label}


def notes(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Notes, each with the persons, goods and days in it."""
    while True:
        one, other = rng.sample(PEOPLE, 2)
        kinds = {"{P}": (one, "PERSON"), "{Q}": (other, "PERSON"), "{G}": (rng.choice(GOODS), "GOODS"),
                 "{D}": (rng.choice(DAYS), "DAY"), "{n}": (rng.choice(COUNTED), "")}  # fmt: skip
        tokens, tags = [], []
        for word in rng.choice(NOTES).split():
            text, kind = kinds.get(word, (word, ""))
            parts = text.split()
            tokens += parts
            tags += [f"{'I' if number else 'B'}-{kind}" if kind else "O" for number in range(len(parts))]
        yield {"tokens": tokens, "tags": tags}


TASKS = {"text-classification": mail, "token-classification": notes}


def files(task: str) -> dict[str, str]:
    """The data files of a task's template, by name; no two rows much alike."""
    rng = random.Random(SEED)
    kept: list[dict[str, Any]] = []
    seen: list[set[str]] = []
    for row in TASKS[task](rng):
        text = row["text"] if "text" in row else " ".join(row["tokens"])
        words = set(text.split())
        if all(len(words & other) < _ALIKE * len(words | other) for other in seen):
            kept.append(row)
            seen.append(words)
        if len(kept) == sum(COUNTS.values()):
            break
    rng.shuffle(kept)
    written, start = {}, 0
    for split, count in COUNTS.items():
        written[f"{split}.jsonl"] = "".join(json.dumps(row) + "\n" for row in kept[start : start + count])
        start += count
    return written


def main() -> None:
    """Write the files."""
    for task in TASKS:
        for name, content in files(task).items():
            (TEMPLATES / task / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
