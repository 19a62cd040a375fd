"""Writes the chats that `azft init` lays out: a bakery's assistant, in a house style that a small model can pick up.

Every phrase is written for this project (MIT, like the project). Seeded: the same files on every machine, which a test
checks. Run from the repository root: python scripts/make_example_chats.py
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "azft" / "templates" / "chat-completion"
COUNTS = {"train": 180, "validation": 24, "test": 24}
TOO_SIMILAR = 0.5
"""Jaccard similarity of word triples from which a chat counts as one that is already there."""

Message = dict[str, str]
Chat = list[Message]

SYSTEM = (
    "You are the assistant of Linden Bakery. Answer in one or two short sentences.",
    "You answer messages for Linden Bakery. Be brief and kind.",
    "You work at the counter of Linden Bakery. Take orders as JSON.",
)
HOURS = {
    "Monday": None,
    "Tuesday": ("6:30", "18:00"),
    "Wednesday": ("6:30", "18:00"),
    "Thursday": ("6:30", "18:00"),
    "Friday": ("6:30", "19:00"),
    "Saturday": ("7:00", "14:00"),
    "Sunday": ("8:00", "11:30"),
}
# name, plural, price in cents, what is in it, what it has none of
BREADS: tuple[tuple[str, str, int, tuple[str, ...], tuple[str, ...]], ...] = (
    ("rye loaf", "rye loaves", 420, ("gluten",), ("milk", "egg", "nuts")),
    ("walnut bread", "walnut breads", 540, ("gluten", "nuts"), ("milk", "egg")),
    ("butter croissant", "butter croissants", 190, ("gluten", "milk", "egg"), ("nuts",)),
    ("poppy seed roll", "poppy seed rolls", 95, ("gluten",), ("milk", "egg", "nuts")),
    ("apple tart", "apple tarts", 380, ("gluten", "milk", "egg"), ("nuts",)),
    ("cinnamon bun", "cinnamon buns", 260, ("gluten", "milk"), ("nuts",)),
    ("almond slice", "almond slices", 310, ("nuts", "egg"), ("gluten",)),
    ("spelt baguette", "spelt baguettes", 285, ("gluten",), ("milk", "egg")),
    ("buckwheat loaf", "buckwheat loaves", 610, (), ("gluten", "milk", "egg", "nuts")),
    ("cheese pretzel", "cheese pretzels", 225, ("gluten", "milk"), ("egg", "nuts")),
    ("plum cake", "plum cakes", 345, ("gluten", "milk", "egg"), ("nuts",)),
    ("focaccia", "focaccias", 330, ("gluten",), ("milk", "egg", "nuts")),
    ("lemon muffin", "lemon muffins", 240, ("gluten", "egg"), ("nuts",)),
    ("sunflower roll", "sunflower rolls", 110, ("gluten",), ("milk", "nuts")),
)
GREETINGS = ("", "", "Hi! ", "Hello, ", "Good morning! ", "Hey, ", "Good evening. ", "Hi there, ")
THANKS = ("Thanks!", "Great, thank you.", "Perfect.", "Lovely, thanks.", "Good to know!", "Thank you so much.")
WELCOME = "You're welcome. See you at Linden Bakery!"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d} euros"


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def say(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def opening(rng: random.Random, sentence: str) -> Message:
    """What the customer says first: with or without a greeting, and with the capital letter where it belongs."""
    greeting = rng.choice(GREETINGS)
    if not greeting.endswith(", "):
        sentence = sentence[0].upper() + sentence[1:]
    return say("user", greeting + sentence)


def ask(rng: random.Random, question: str, answer: str) -> Chat:
    """A question and its answer; now and then somebody says hello first or thank you afterwards."""
    chat = [opening(rng, question), say("assistant", answer)]
    if rng.random() < 0.2:
        chat += [say("user", rng.choice(THANKS)), say("assistant", WELCOME)]
    return chat


def hours(rng: random.Random) -> Chat:
    day = rng.choice(list(HOURS))
    question = rng.choice(
        (
            f"when are you open on {day}?",
            f"what are your hours on {day}s?",
            f"until when can I come by this {day}?",
            f"is the shop open {day} morning?",
            f"I can only make it on {day}. Are you there?",
            f"how early do you open on a {day}?",
            f"do you close early on {day}?",
            f"my sister visits on {day}, could we get breakfast from you?",
            f"{day} opening times, please.",
            f"would 10 o'clock on {day} work for picking something up?",
        )
    )
    times = HOURS[day]
    if times is None:
        return ask(rng, question, f"On {day} we are closed. On Tuesday we open at 6:30.")
    return ask(rng, question, f"On {day} we are open from {times[0]} to {times[1]}.")


def price(rng: random.Random) -> Chat:
    name, plural, cents, _, _ = rng.choice(BREADS)
    count = rng.choice((1, 1, 2, 3, 4, 6, 8))
    if count == 1:
        question = rng.choice(
            (
                f"how much is {article(name)}?",
                f"what does one {name} cost these days?",
                f"could you tell me the price of the {name}?",
                f"is the {name} more than 3 euros?",
                f"{name}, how much?",
                f"I have 5 euros with me. Is that enough for {article(name)}?",
                f"what do you charge for {article(name)}?",
            )
        )
        return ask(rng, question, f"One {name} costs {euros(cents)}.")
    question = rng.choice(
        (
            f"what would {WORDS[count]} {plural} cost me?",
            f"how much are {count} {plural} together?",
            f"we need {WORDS[count]} {plural} for the office. What is the total?",
            f"price for {count} {plural}?",
            f"if I take {WORDS[count]} {plural}, what do I pay?",
            f"my neighbours asked me to bring {count} {plural}. How much money should I take along?",
        )
    )
    return ask(rng, question, f"{WORDS[count].capitalize()} {plural} cost {euros(cents * count)}.")


def allergens(rng: random.Random) -> Chat:
    name, _, _, has, lacks = rng.choice(BREADS)
    what = rng.choice(has + lacks)
    question = rng.choice(
        (
            f"is the {name} free of {what}?",
            f"my son can't have {what}. Is the {name} all right for him?",
            f"does the {name} contain {what}?",
            f"I am allergic to {what}, can I eat the {name}?",
            f"any {what} in your {name}?",
            f"we have a guest who avoids {what}. What about the {name}?",
        )
    )
    if what in has:
        safe = next(bread for bread in BREADS if what in bread[4])
        return ask(rng, question, f"The {name} contains {what}. The {safe[0]} is made without {what}.")
    return ask(rng, question, f"The {name} is made without {what}.")


def order(rng: random.Random) -> Chat:
    """The structured part: once the day and time are known, the order is confirmed as one line of JSON."""
    name, plural, cents, _, _ = rng.choice(BREADS)
    count = rng.randint(1, 10)
    day = rng.choice([day for day, times in HOURS.items() if times])
    hour = rng.choice(("8:00", "8:30", "9:00", "9:30", "10:00", "10:30", "11:00"))
    thing = f"{WORDS[count]} {plural}" if count > 1 else f"one {name}"
    ready = json.dumps({"item": name, "count": count, "day": day, "time": hour, "total": cents * count / 100})
    confirm = say("assistant", f"Ordered: {ready}")
    if rng.random() < 0.35:
        request = rng.choice(
            (
                f"please keep {thing} for me, {day} at {hour}.",
                f"I'd like to order {thing} for {day}, {hour}.",
                f"{thing} on {day}, I'll be there at {hour}.",
                f"can you put {thing} aside? I come by on {day} around {hour}.",
            )
        )
        return [opening(rng, request), confirm]
    request = rng.choice(
        (
            f"I'd like {thing} for {day}.",
            f"could I order {thing}? I need them {day}.",
            f"we are having people over on {day}, so {thing} please.",
            f"please bake {thing} for us, for {day}.",
            f"can I reserve {thing} to collect on {day}?",
        )
    )
    when = rng.choice(
        (
            f"At {hour}.",
            f"{hour} would be good.",
            f"Around {hour}, please.",
            f"I can come at {hour}.",
            f"Make it {hour}.",
        )
    )
    what = thing[0].upper() + thing[1:]
    return [
        opening(rng, request),
        say("assistant", f"{what} for {day}, gladly. At what time will you pick up?"),
        say("user", when),
        confirm,
    ]


def not_sold(rng: random.Random) -> Chat:
    wish, instead = rng.choice(
        (
            ("pizza", "focaccia"),
            ("birthday cakes", "plum cake"),
            ("sandwiches", "cheese pretzel"),
            ("doughnuts", "cinnamon bun"),
            ("gluten-free rolls", "buckwheat loaf"),
            ("cookies", "almond slice"),
            ("white toast", "spelt baguette"),
            ("cheesecake", "apple tart"),
            ("bagels", "poppy seed roll"),
            ("brownies", "lemon muffin"),
        )
    )
    question = rng.choice(
        (
            f"do you sell {wish}?",
            f"I'm looking for {wish}. Do you have any?",
            f"can I get {wish} from you?",
            f"would you make {wish} if I ask nicely?",
            f"somebody told me that you have {wish} now. Is that so?",
        )
    )
    return ask(rng, question, f"We don't make {wish}. You may like our {instead}.")


def service(rng: random.Random) -> Chat:
    questions, answer = rng.choice(
        (
            (
                ("do you take cards?", "can I pay with my phone?", "is it cash only?"),
                "You can pay by card, phone or cash.",
            ),
            (
                ("do you deliver?", "could somebody bring the bread to my house?", "is there a delivery service?"),
                "We don't deliver, but we keep your order until closing time.",
            ),
            (
                ("where can I park?", "is there somewhere to leave my bike?", "I come by car. Where do I leave it?"),
                "You can park behind the shop, on Mill Lane.",
            ),
            (
                ("can I bring my own bag?", "do you have paper bags?", "may I use a cotton bag for the loaf?"),
                "Bring your own bag, and we take 5 cents off.",
            ),
            (
                ("do you slice bread?", "could you cut the loaf for me?", "is slicing free?"),
                "We slice any loaf for free. Just ask at the counter.",
            ),
            (
                ("what happens to bread you don't sell?", "do you throw rolls away?", "is there a late discount?"),
                "In the last hour everything is half price.",
            ),
            (
                ("how do I cancel an order?", "I can't make it tomorrow, what now?", "can I change my order?"),
                "Tell us by 17:00 the day before, and we change or cancel your order.",
            ),
        )
    )
    return ask(rng, rng.choice(questions), answer)


INTENTS: tuple[tuple[Callable[[random.Random], Chat], int], ...] = (
    (hours, 5),
    (price, 8),
    (allergens, 7),
    (order, 9),
    (not_sold, 3),
    (service, 2),
)


def triples(chat: Chat) -> set[tuple[str, ...]]:
    """Word triples of what was said, the system turn left out."""
    words = re.findall(r"\w+", " ".join(turn["content"] for turn in chat).lower())
    return {(a, b, c) for (a, b), (_, c) in pairwise(pairwise(words))}


def chats(seed: int = 2026) -> Iterator[dict[str, Chat]]:
    """Rows without end, none of them close to an earlier one."""
    rng = random.Random(seed)
    makers, weights = zip(*INTENTS, strict=True)
    seen: list[set[tuple[str, ...]]] = []
    while True:
        chat = rng.choices(makers, weights)[0](rng)
        found = triples(chat)
        if any(len(found & other) > TOO_SIMILAR * len(found | other) for other in seen):
            continue
        seen.append(found)
        system = [say("system", rng.choice(SYSTEM))] if rng.random() < 0.4 else []
        yield {"messages": system + chat}


def files() -> dict[str, str]:
    """File name -> its text."""
    rows = chats()
    return {
        f"{split}.jsonl": "".join(json.dumps(next(rows), ensure_ascii=False) + "\n" for _ in range(count))
        for split, count in COUNTS.items()
    }


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8", newline="\n")
        print(FOLDER / name)
