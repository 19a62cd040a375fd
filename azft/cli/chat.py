"""`azft chat`: talk to the model that a run made."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from azft.asking import row_of
from azft.cli import options
from azft.cli.render import Output, clean, is_interactive, note
from azft.errors import UsageError

if TYPE_CHECKING:
    from azft.asking import Answer
    from azft.azureml.inference import EndpointChat
    from azft.chat import Chat

EPILOG = """\b
Example:
  $ azft chat --latest --prompt "When are you open on Saturday?"
  On Saturday we are open from 7:00 to 14:00.
  $ azft chat --endpoint linden-bakery-3f2a91c0-77d1 --prompt "Hello"

\b
A model that tells something about texts is asked the same way; with --row
where it reads several:
  $ azft chat --endpoint mail-5c10a7e2-9f04 --prompt "No parcel came."
  complaint (0.982)
  $ azft chat --endpoint facts --row '{"question": "Who?", "context": "Jon."}'
  Jon

\b
Without either it is a conversation: an empty line or Ctrl-D ends it.
"""


class Settings(TypedDict):
    """How an answer is made."""

    max_new_tokens: int
    temperature: float


@click.command(epilog=EPILOG)
@click.argument("what", required=False, metavar="[RUN]", callback=options.not_empty)
@options.latest
@click.option(
    "--endpoint",
    metavar="NAME",
    callback=options.not_empty,
    help="In place of RUN: an endpoint in Azure (azft deploy makes one).",
)
@click.option("--prompt", help="Say this, show the answer, and end. `-` reads it from standard input.")
@click.option(
    "--row",
    metavar="JSON",
    callback=options.not_empty,
    help='Ask with the columns of a row instead: {"question": ..., "context": ...}. `-` reads it from standard input.',
)
@click.option("--system", help="A system turn that comes first.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    default=256,
    show_default=True,
    help="Most tokens in an answer.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    metavar="X",
    default=0.0,
    show_default=True,
    help="0 always takes the likeliest token.",
)
@options.azure
@options.output
def command(
    what: str | None,
    latest: bool,
    endpoint: str | None,
    prompt: str | None,
    row: str | None,
    system: str | None,
    max_tokens: int,
    temperature: float,
    access: Any,
    output: Output,
) -> None:
    """Talk to the model that a run made, to a model folder, or to an endpoint in Azure.

    RUN is a run's name, or the start of it; or a model folder, with a / in it. With --endpoint there is none.
    """
    from azft import api

    if prompt is not None and row is not None:
        raise UsageError("Give either --prompt or --row.", fix='The row has it all: --row \'{"text": "..."}\'')
    given = None if row is None else _row(sys.stdin.read() if row == "-" else row)
    if prompt is None and given is None and not is_interactive():
        raise UsageError("A conversation needs a terminal.", fix='Without one: azft chat RUN --prompt "..."')
    chat: Chat | EndpointChat
    if endpoint is not None:
        if what is not None or latest:
            raise UsageError("Give either an endpoint or a run, not both.", fix="Leave out RUN and --latest.")
        chat = api.open_endpoint(endpoint, access=access)
    elif what is not None and not latest and ("/" in what or Path(what).is_dir()):
        chat = api.open_chat(Path(what))
    else:
        chat = api.open_chat(options.find_run(what, latest))
    if chat.note:
        note(chat.note)
    messages = [{"role": "system", "content": system}] if system else []
    settings: Settings = {"max_new_tokens": max_tokens, "temperature": temperature}
    if given is not None:
        _show(output, chat.ask(given, **settings), {"row": given})
        return
    if prompt is None:
        _converse(chat, messages, settings)
        return
    said = sys.stdin.read() if prompt == "-" else prompt
    messages.append({"role": "user", "content": said})
    if output.is_table and output.query is None:
        _answer(chat, messages, settings)
        return
    answer = chat.ask(row_of(said, chat.reads), **settings) if chat.reads else None
    text = "".join(chat.reply(messages, **settings)) if answer is None else answer.text
    shown = {"messages": [*messages, {"role": "assistant", "content": text}], "answer": text}
    output.show(shown if answer is None else {**shown, "told": answer.told})


def _row(text: str) -> Any:
    """The row that was given as JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"--row is no JSON: {error}.", fix='Like this: --row \'{"text": "..."}\'') from None


def _show(output: Output, answer: Answer, asked: dict[str, Any]) -> None:
    """The answer to a row."""
    if output.is_table and output.query is None:
        sys.stdout.write(f"{clean(answer.text)}\n")
    else:
        output.show({**asked, "answer": answer.text, "told": answer.told})


def _converse(chat: Chat | EndpointChat, messages: list[dict[str, str]], settings: Settings) -> None:
    note("An empty line ends the conversation.")
    while True:
        try:
            said = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if not said:
            return
        messages.append({"role": "user", "content": said})
        try:
            messages.append({"role": "assistant", "content": _answer(chat, messages, settings)})
        except KeyboardInterrupt:  # ends the answer, not the conversation
            sys.stdout.write("\n")
            messages.pop()


def _answer(chat: Chat | EndpointChat, messages: list[dict[str, str]], settings: Settings) -> str:
    """Write the answer as it comes."""
    pieces = []
    for piece in chat.reply(messages, **settings):
        pieces.append(piece)
        sys.stdout.write(clean(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces)
