"""Writes the rows that `azft init` lays out for tasks that write text: answers, translations, texts and more.

Every phrase is written for this project (MIT, like the project). Seeded: the same files on every machine, which a test
checks. Run from the repository root: python scripts/make_example_rows.py
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "azft" / "templates"
COUNTS = {"train": 96, "validation": 12, "test": 24}
TOO_SIMILAR = 0.45
"""Jaccard similarity of word triples from which a row counts as one that is already there."""

Row = dict[str, Any]

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PEOPLE = ("Ada", "Bruno", "Clara", "Emil", "Frida", "Gustav", "Hanna", "Ivo", "Johanna", "Karl", "Lotte", "Mats")


# Text generation: the labels of a bakery, one voice throughout.
BREADS = {
    "rye loaf": ("dark", "caraway", "a thick crust"),
    "walnut bread": ("brown", "walnuts", "a rough crust"),
    "butter croissant": ("golden", "cold butter", "forty thin layers"),
    "poppy seed roll": ("pale", "poppy seeds", "a soft middle"),
    "apple tart": ("amber", "sour apples", "a crumbly edge"),
    "cinnamon bun": ("tan", "cinnamon sugar", "a tight spiral"),
    "almond slice": ("blond", "roasted almonds", "a crackling top"),
    "spelt baguette": ("bronze", "spelt flour", "wide open holes"),
    "buckwheat loaf": ("grey", "buckwheat", "a dense crumb"),
    "cheese pretzel": ("chestnut", "mountain cheese", "a salty knot"),
    "plum cake": ("violet", "late plums", "a sugar crust"),
    "focaccia": ("yellow", "olive oil", "deep dimples"),
    "lemon muffin": ("bright", "lemon peel", "a domed head"),
    "sunflower roll": ("speckled", "sunflower seeds", "a nutty bite"),
}
FIRST = (
    "The {name} is {colour}, made with {inside}.",
    "Our {name}: {colour} outside, {inside} inside.",
    "Look for the {colour} one: that is the {name}, full of {inside}.",
    "A {name} should be {colour}. Ours is, thanks to {inside}.",
)
SECOND = (
    "It has {trait}, and it rests {hours} hours before it meets the oven.",
    "Give it {hours} hours of rest and you get {trait}.",
    "What makes it ours is {trait} after {hours} slow hours.",
    "{hours} hours in the cool room, then {trait}.",
)
THIRD = (
    "Eat it by {day}, with nothing on it.",
    "{person} bakes it on {day}s only.",
    "Best on the {day} it was bought, as {person} says.",
    "Toast it on {day}, if any is left.",
    "Ask {person} for the last one on {day}.",
)


def text_generation(rng: random.Random) -> Row:
    name, (colour, inside, trait) = rng.choice(list(BREADS.items()))
    words = {"name": name, "colour": colour, "inside": inside, "trait": trait, "hours": rng.choice((8, 12, 16, 24, 36))}
    words |= {"day": rng.choice(DAYS), "person": rng.choice(PEOPLE)}
    sentences = (rng.choice(part).format(**words) for part in (FIRST, SECOND, THIRD))
    return {"text": " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)}


# Question answering: short notes on things that were never built; the answer stands in the note.
THINGS = (
    "bridge",
    "water tower",
    "mill",
    "lighthouse",
    "town hall",
    "observatory",
    "library",
    "ferry",
    "dam",
    "chapel",
)
PLACES = (
    "Alden",
    "Brunnfeld",
    "Corrow",
    "Dunmere",
    "Eschach",
    "Farnby",
    "Grellin",
    "Hollow Point",
    "Istad",
    "Jarrow Bay",
)
MATERIALS = (
    "red brick",
    "oak",
    "grey granite",
    "white limestone",
    "iron",
    "sandstone",
    "larch wood",
    "copper and glass",
)
QUALITIES = ("its crooked roof", "the blue door", "an echo", "two storks", "a clock that runs slow", "its smell of tar")
SENTENCES: dict[str, tuple[str, ...]] = {
    "builder": ("{answer} drew the plans.", "It was built by {answer}.", "The builder was {answer}, a stranger there."),
    "year": (
        "It was finished in {answer}.",
        "Since {answer} it has been in use.",
        "Work ended in {answer}, a wet year.",
    ),
    "material": (
        "Its walls are of {answer}.",
        "{answer} was what they had, so it is made of that.",
        "It is all {answer}.",
    ),
    "height": (
        "It rises {answer} above the street.",
        "At {answer} it is the tallest thing around.",
        "It measures {answer}.",
    ),
    "known": ("People know it for {answer}.", "Children love it for {answer}.", "It owes its fame to {answer}."),
}
QUESTIONS = {
    "builder": ("Who built the {thing}?", "Who drew the plans of the {thing} in {place}?"),
    "year": ("When was the {thing} finished?", "Since when is the {thing} of {place} in use?"),
    "material": ("What is the {thing} made of?", "Of what are the walls of the {thing} in {place}?"),
    "height": ("How high is the {thing}?", "How tall is the {thing} in {place}?"),
    "known": ("What is the {thing} known for?", "For what do people know the {thing} of {place}?"),
}
SURNAMES = ("Brandt", "Halloran", "Okafor", "Lindqvist", "Moreau", "Tanaka", "Petrov", "Castell", "Weaver", "Nyman")


def question_answering(rng: random.Random) -> Row:
    thing, place = rng.choice(THINGS), rng.choice(PLACES)
    facts = {
        "builder": f"{rng.choice(PEOPLE)} {rng.choice(SURNAMES)}",
        "year": str(rng.randint(1610, 1958)),
        "material": rng.choice(MATERIALS),
        "height": f"{rng.randint(7, 64)} metres",
        "known": rng.choice(QUALITIES),
    }
    told = rng.sample(list(facts), 3)
    sentences = [f"The {thing} of {place} stands {rng.choice(('by the river', 'on a hill', 'near the market'))}."]
    for fact in told:
        sentence = rng.choice(SENTENCES[fact]).format(answer=facts[fact])
        sentences.append(sentence[0].upper() + sentence[1:])
    context, asked = " ".join(sentences), rng.choice(told)
    start = context.lower().index(facts[asked].lower())
    answer = context[start : start + len(facts[asked])]
    return {
        "question": rng.choice(QUESTIONS[asked]).format(thing=thing, place=place),
        "context": context,
        "answers": {"text": [answer], "answer_start": [start]},
    }


# Translation: English into German, from phrases with their counterparts.
WHO = (*((name, name) for name in PEOPLE), ("the baker", "der Bäcker"), ("my sister", "meine Schwester"))
WHEN = (
    ("today", "heute"), ("tomorrow", "morgen"), ("on Monday", "am Montag"), ("on Tuesday", "am Dienstag"),
    ("on Friday", "am Freitag"), ("on Sunday", "am Sonntag"),
    ("in the morning", "am Morgen"), ("in the evening", "am Abend"),
)  # fmt: skip
WHAT = (
    ("a rye loaf", "ein Roggenbrot"), ("two pretzels", "zwei Brezeln"), ("the apple cake", "den Apfelkuchen"),
    ("a letter", "einen Brief"), ("the newspaper", "die Zeitung"), ("three tickets", "drei Fahrkarten"),
    ("a bicycle", "ein Fahrrad"), ("fresh milk", "frische Milch"), ("a warm coat", "einen warmen Mantel"),
    ("the old map", "die alte Karte"), ("some flowers", "ein paar Blumen"), ("a good book", "ein gutes Buch"),
)  # fmt: skip
DOES = (
    ("buys", "kauft", "buy", "kaufen"), ("brings", "bringt", "bring", "bringen"),
    ("sells", "verkauft", "sell", "verkaufen"),
    ("finds", "findet", "find", "finden"), ("is looking for", "sucht", "look for", "suchen"),
    ("forgets", "vergisst", "forget", "vergessen"),
)  # fmt: skip
WHERE = (
    ("at the market", "auf dem Markt"), ("at the station", "am Bahnhof"), ("in the kitchen", "in der Küche"),
    ("next to the church", "neben der Kirche"), ("in the garden", "im Garten"), ("at school", "in der Schule"),
)  # fmt: skip


def translation(rng: random.Random) -> Row:
    who, when, what, does, where = (rng.choice(part) for part in (WHO, WHEN, WHAT, DOES, WHERE))
    form = rng.randrange(4)
    if form == 0:
        english, german = (f"{who[0]} {does[0]} {what[0]} {where[0]}", f"{who[1]} {does[1]} {where[1]} {what[1]}")
    elif form == 1:
        english, german = (f"{when[0]} {who[0]} {does[0]} {what[0]}", f"{when[1]} {does[1]} {who[1]} {what[1]}")
    elif form == 2:
        english, german = (
            f"{who[0]} wants to {does[2]} {what[0]} {when[0]}",
            f"{who[1]} will {when[1]} {what[1]} {does[3]}",
        )
    else:
        english, german = (
            f"can {who[0]} {does[2]} {what[0]} {where[0]}",
            f"kann {who[1]} {where[1]} {what[1]} {does[3]}",
        )
    end = "?" if form == 3 else "."
    return {"source": english[0].upper() + english[1:] + end, "target": german[0].upper() + german[1:] + end}


# Summarization: notices, of which one sentence says what matters.
EVENTS = (
    "choir practice",
    "book club",
    "garden day",
    "chess evening",
    "repair café",
    "parents' meeting",
    "bread course",
)
REASONS = (
    "the hall is being painted",
    "the heating broke",
    "the teacher is ill",
    "the road is closed",
    "the fair is on",
)
SPOTS = ("the school", "the old mill", "the library", "the town hall", "Frida's kitchen", "the boathouse")
OPENINGS = ("Hello everyone.", "Dear neighbours,", "Good evening all.", "A short notice.", "Hi,", "Please read this.")
FILLERS = (
    "Thank you all for the lovely time we had last week.", "We are sorry for the late message.",
    "There will be tea and a plate of biscuits as always.", "Children are welcome and dogs too.",
    "Nobody needs to bring anything this time.", "Last month twelve of you came, which was wonderful.",
    "It took us some days to find that out.", "The key is under the usual flower pot.",
)  # fmt: skip
ENDS = (
    "Write to {person} if you can't come.", "{person} has all the details.", "Best wishes, {person}",
    "Questions? Ask {person}.", "See you there! {person}", "Tell {person} by noon, please.",
)  # fmt: skip


def summarization(rng: random.Random) -> Row:
    event, reason, person = rng.choice(EVENTS), rng.choice(REASONS), rng.choice(PEOPLE)
    (day, other), (spot, instead) = rng.sample(DAYS, 2), rng.sample(SPOTS, 2)
    time = f"{rng.randint(9, 20)}:{rng.choice(('00', '15', '30'))}"
    news, summary = rng.choice(
        (
            (f"The {event} can't be on {day} because {reason}; we meet on {other} at {time}.",
             f"The {event} moves from {day} to {other}, {time}."),
            (f"Because {reason}, {day}'s {event} is not in {spot} but in {instead}.",
             f"The {event} on {day} is in {instead}."),
            (f"As {reason}, there will be no {event} on {day}, and none before {other} week.",
             f"The {event} on {day} is cancelled."),
            (f"On {day} the {event} begins at {time} and not earlier, because {reason}.",
             f"The {event} on {day} begins at {time}."),
        )
    )  # fmt: skip
    one, two = rng.sample(FILLERS, 2)
    middle = [news, two] if rng.random() < 0.5 else [two, news]
    document = " ".join((rng.choice(OPENINGS), one, *middle, rng.choice(ENDS).format(person=person)))
    return {"document": document, "summary": summary}


# Music: jigs of eight bars, each bar six eighths of a scale's steps.
STEPS = "DEFGABcdefg"
KEYS = {"G": 3, "D": 0, "A minor": 4, "E minor": 1, "D major": 0, "G major": 3}
NAMES = (
    "Door",
    "Kettle",
    "Lane",
    "Goose",
    "Lantern",
    "Bridge",
    "Apron",
    "Weather",
    "Spoon",
    "Orchard",
    "Ferry",
    "Mitten",
)
MOODS = ("Kitchen", "Crooked", "Merry", "Sleepy", "Salty", "Frosty", "Tall", "Borrowed", "Windy", "Quiet", "Copper")
WISHES = (
    "Write a jig in {key} called {name}.", "{name}: a jig, eight bars, {key}.", "I'd like a {key} jig: {name}.",
    "Compose the jig {name} in {key}.",
)  # fmt: skip


def music_generation(rng: random.Random) -> Row:
    key, name = rng.choice(list(KEYS)), f"The {rng.choice(MOODS)} {rng.choice(NAMES)}"
    at, bars = KEYS[key], []
    for number in range(8):
        notes = []
        for _ in range(2):
            walk = []
            for _ in range(3):
                at = min(max(at + rng.choice((-2, -1, -1, 1, 1, 2)), 0), len(STEPS) - 1)
                walk.append(STEPS[at])
            notes.append(rng.choice(("".join(walk), "".join(walk), f"{walk[0]}2{walk[2]}", f"{walk[0]}3")))
        bars.append(" ".join(notes) if number < 7 else f"{notes[0]} {STEPS[KEYS[key]]}3")
    short = {"A minor": "Am", "E minor": "Em"}.get(key, key[0])
    tune = f"X:1\nT:{name}\nM:6/8\nL:1/8\nK:{short}\n|:{' | '.join(bars[:4])} |\n{' | '.join(bars[4:])} :|"
    return {"prompt": rng.choice(WISHES).format(key=key, name=name), "completion": tune}


# Pictures: a few shapes with places, in SVG.
COLOURS = ("red", "orange", "gold", "green", "teal", "navy", "purple", "brown", "black", "pink", "olive", "gray")
SHAPES = {
    "circle": '<circle cx="{x}" cy="{y}" r="{s}" fill="{c}"/>',
    "square": '<rect x="{l}" y="{t}" width="{w}" height="{w}" fill="{c}"/>',
    "triangle": '<polygon points="{x},{t} {r},{b} {l},{b}" fill="{c}"/>',
    "ellipse": '<ellipse cx="{x}" cy="{y}" rx="{s}" ry="{h}" fill="{c}"/>',
    "cross": '<path d="M{l} {y}H{r}M{x} {t}V{b}" stroke="{c}" stroke-width="4"/>',
}
SIDES = {"above": ((50, 25), (50, 75)), "left of": ((25, 50), (75, 50)), "below": ((50, 75), (50, 25)),
         "right of": ((75, 50), (25, 50))}  # fmt: skip
ORDERS = (
    "Draw {a} {side} {b}.",
    "{a} {side} {b}",
    "A picture of {a} {side} {b}, please.",
    "Show {a} that is {side} {b}.",
)


def svg_generation(rng: random.Random) -> Row:
    side = rng.choice(list(SIDES))
    kinds, colours = [rng.choice(list(SHAPES)) for _ in range(2)], rng.sample(COLOURS, 2)
    drawn = [_shape(kind, *place, rng.randint(7, 22), colour)
             for kind, place, colour in zip(kinds, SIDES[side], colours, strict=True)]  # fmt: skip
    a, b = (f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in map(" ".join, zip(colours, kinds, strict=True)))
    order = rng.choice(ORDERS).format(a=a, side=side, b=b)
    picture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">\n' + "\n".join(drawn) + "\n</svg>"
    return {"prompt": order[0].upper() + order[1:], "completion": picture}


def _shape(kind: str, x: int, y: int, size: int, colour: str) -> str:
    edges = {"l": x - size, "r": x + size, "t": y - size, "b": y + size, "w": 2 * size, "h": size // 2 + 2}
    return SHAPES[kind].format(x=x, y=y, s=size, c=colour, **edges)


TASKS: dict[str, Callable[[random.Random], Row]] = {
    "text-generation": text_generation,
    "question-answering": question_answering,
    "translation": translation,
    "summarization": summarization,
    "music-generation": music_generation,
    "svg-generation": svg_generation,
}


def files(task: str) -> dict[str, str]:
    """The rows of a task as the three files' contents, no two of them alike."""
    rng, make = random.Random(task), TASKS[task]
    kept: list[Row] = []
    asked: set[str] = set()
    seen: list[set[tuple[str, ...]]] = []
    for _ in range(200_000):
        row = make(rng)
        triples, prompt = _triples(row), str({key: row[key] for key in list(row)[:-1]})
        if prompt not in asked and all(len(triples & other) <= TOO_SIMILAR * len(triples | other) for other in seen):
            kept.append(row)
            seen.append(triples)
            asked.add(prompt if len(row) > 1 else "")
        if len(kept) == sum(COUNTS.values()):
            break
    else:
        raise SystemExit(f"{task}: only {len(kept)} rows are different enough")
    contents, position = {}, 0
    for split, count in COUNTS.items():
        rows = kept[position : position + count]
        contents[f"{split}.jsonl"] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        position += count
    return contents


def _triples(row: Row) -> set[tuple[str, ...]]:
    words = json.dumps(row).lower().split()
    return {(a, *b) for a, b in zip(words, pairwise(words[1:]), strict=False)}


def main() -> None:
    """Write the files of every task."""
    for task in TASKS:
        (FOLDER / task).mkdir(exist_ok=True)
        for name, content in files(task).items():
            (FOLDER / task / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
