"""Renders a model's chat template (Jinja) into text, as transformers' `apply_chat_template` does, without importing it.

Templates come with a model and are not trusted: they run in Jinja's immutable sandbox. What the text means for the
loss is `azft.data.masking`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from azft.errors import AzftError

Message = Mapping[str, Any]
"""One turn: role, content, and whatever else the data's format allows (tool_calls, name, ...)."""


class ChatTemplateError(AzftError):
    """The template could not be compiled, or refused a conversation; the message is the template's own."""


class ChatTemplate:
    """A compiled chat template with the tokenizer's special tokens (`bos_token`, `eos_token`, ...) as its variables.

    `now` is what `strftime_now` tells the template; None is the clock. Preparing data passes a fixed date, because
    the same data must give the same tokens tomorrow.
    """

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str],
        *,
        tool_source: str | None = None,
        now: datetime | None = None,
    ) -> None:
        self.source = source
        self.variables = dict(variables)
        self.now = now
        self.tool_source = tool_source
        """The template for conversations with tools, where the model has a second one for them."""
        environment = _environment(now)
        try:
            self._plain = environment.from_string(source)
            self._with_tools = environment.from_string(tool_source) if tool_source is not None else self._plain
        except TemplateSyntaxError as error:
            raise ChatTemplateError(
                f"The chat template is not valid Jinja (line {error.lineno}): {error.message}"
            ) from None

    @property
    def depends_on_the_date(self) -> bool:
        """Whether the template writes today's date into the conversation."""
        return "strftime_now" in self.source or "strftime_now" in (self.tool_source or "")

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as text. Keys whose value is None are left out, as transformers does.

        Raises `ChatTemplateError` when the template refuses the conversation or fails on it.
        """
        template = self._with_tools if tools else self._plain
        turns = [
            {key: value for key, value in message.items() if value is not None} if None in message.values() else message
            for message in messages
        ]
        try:
            return template.render(
                {
                    **self.variables,
                    "messages": turns,
                    "tools": tools,
                    "documents": None,
                    "add_generation_prompt": add_generation_prompt,
                }
            )
        except TemplateError as error:
            raise ChatTemplateError(f"The chat template refuses this conversation: {error.message}") from None
        except Exception as error:  # a template is a program: any exception of its expressions can come out of it
            raise ChatTemplateError(
                f"The chat template fails on this conversation: {type(error).__name__}: {error}"
            ) from None


def _environment(now: datetime | None) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, LoopControlExtension]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _clock(now)
    environment.globals["dict"] = _make_dict
    environment.globals["namespace"] = _SafeNamespace
    return environment


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant says; here it only renders its body.

    The loss mask isn't taken from it: most templates lack it, and those that have it often leave the stop token
    outside.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block, because names set inside one stay inside: the scope that such templates are written for.
        return nodes.CallBlock(self.call_method("_render_body"), [], [], body).set_lineno(line)

    def _render_body(self, caller: Callable[[], str]) -> str:
        return caller()


class _SafeNamespace(Namespace):
    """Jinja's `namespace()` without names that start with an underscore: those reach into Python's own objects."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a chat template may not set the name {name!r}")
        super().__setitem__(name, value)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on: not escaped for HTML (as Jinja's own filter does) nor for ASCII."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _clock(now: datetime | None) -> Callable[[str], str]:
    def strftime_now(format: str) -> str:  # noqa: A002 - templates may name the argument
        return (now or datetime.now()).strftime(format)

    return strftime_now
