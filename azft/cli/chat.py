"""`azft chat`: talk to the model that a run made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from azft.cli import options
from azft.cli.render import Output, clean, is_interactive, note
from azft.errors import UsageError

if TYPE_CHECKING:
    from azft.azureml.inference import EndpointChat
    from azft.chat import Chat

EPILOG = """\b
Example:
  $ azft chat --latest --prompt "When are you open on Saturday?"
  On Saturday we are open from 7:00 to 14:00.
  $ azft chat --endpoint linden-bakery-3f2a91c0-77d1 --prompt "Hello"

\b
Without --prompt it is a conversation: an empty line or Ctrl-D ends it.
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

    if prompt is None and not is_interactive():
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
    if prompt is None:
        _converse(chat, messages, settings)
        return
    messages.append({"role": "user", "content": sys.stdin.read() if prompt == "-" else prompt})
    if output.is_table and output.query is None:
        _answer(chat, messages, settings)
    else:
        answer = "".join(chat.reply(messages, **settings))
        output.show({"messages": [*messages, {"role": "assistant", "content": answer}], "answer": answer})


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
