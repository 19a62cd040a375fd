"""Text and ids equal transformers', for every template that the project cares about."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from azft.data.chat_template import ChatTemplate, ChatTemplateError
from azft.data.tokenizer import context_length, load_tokenizer
from azft.errors import AzftError, NotFoundError
from tests.helpers.tokens import FAMILIES, TEMPLATES, template_source, tokenizer_folder

USER, ASSISTANT = {"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Fine, thanks."}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [USER, ASSISTANT],
    "two turns": [USER, ASSISTANT, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Sun."}],
    "system": [{"role": "system", "content": "Be brief."}, USER, ASSISTANT],
    "odd text": [
        {"role": "user", "content": "  \n\n naïve café 日本語 🤖 <b>&amp;</b> \n"},
        {"role": "assistant", "content": "\n\n\n   leading, 日本 and trailing \n\n "},
    ],
    "None and extra keys": [{**USER, "name": None}, {**ASSISTANT, "tool_calls": None}],
    "prompt only": [USER],
}
TOOLS = [{"type": "function", "function": {"name": "wëather", "parameters": {"type": "object", "properties": {}}}}]
TOOL_TALK: list[dict[str, Any]] = [
    USER,
    {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "wëather", "arguments": {"x": "é<"}}}],
    },
    {"role": "tool", "content": "12 °C"},
    {"role": "assistant", "content": "Cold."},
]


@pytest.fixture(scope="module")
def transformers() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers")


@pytest.mark.parametrize(
    "name", [p.relative_to(TEMPLATES).with_suffix("").as_posix() for p in TEMPLATES.rglob("*.jinja")]
)
def test_text_and_ids_equal_transformers(name: str, transformers: Any, tmp_path: Path) -> None:
    family = name if name in FAMILIES else "chatml"
    folder = tokenizer_folder(tmp_path, family, template=template_source(name))
    ours, theirs = load_tokenizer(folder, now=None), transformers.AutoTokenizer.from_pretrained(folder)
    compared = 0
    cases = [(messages, None) for messages in CONVERSATIONS.values()] + [(TOOL_TALK, TOOLS), (TOOL_TALK, None)]
    for messages, tools in cases:
        for prompt in (False, True):
            try:
                expected = theirs.apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=prompt
                )
            except Exception:
                with pytest.raises(ChatTemplateError):
                    ours.template.render(messages, tools=tools, add_generation_prompt=prompt)
                continue
            text = ours.template.render(messages, tools=tools, add_generation_prompt=prompt)
            assert text == expected
            assert ours.encode(text) == theirs.apply_chat_template(
                messages, tools=tools, add_generation_prompt=prompt, return_dict=False
            )
            compared += 1
    assert compared >= 6


def test_generation_tag_loop_controls_and_functions_work_as_in_transformers(transformers: Any, tmp_path: Path) -> None:
    source = (
        "{%- set ns = namespace(n=0) %}{% for m in messages %}  {% if m.role == 'tool' %}{% continue %}{% endif %}\n"
        "{% generation %}{% set ns.n = ns.n + 1 %}{{ m | tojson }}{% endgeneration %}{{ ns.n }}\n{% endfor %}\n"
        "{{ strftime_now('%Y') }} {{ dict(a=1) | tojson(indent=2) }} {{ eos_token }}"
        "{{ tools is none }}{{ documents is none }}"
    )
    folder = tokenizer_folder(tmp_path, template=source)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder, now=None)
    assert ours.template.render(TOOL_TALK) == theirs.apply_chat_template(TOOL_TALK, tokenize=False)


def test_the_date_is_fixed_unless_asked_otherwise(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path, template="{{ strftime_now('%d %b %Y') }}")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.template.render([USER]) == "26 Jul 2024"
    assert tokenizer.template.depends_on_the_date
    assert load_tokenizer(folder, now=datetime(2030, 1, 2)).template.render([USER]) == "02 Jan 2030"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{% set x = namespace() %}{% set x.__init__ = 1 %}",
        "{{ messages.append(1) }}",
        "{{ messages[0].content.format.__globals__ }}",
        "{{ raise_exception('no') }}",
        "{{ 1 / 0 }}",
        "{{ messages + 1 }}",
        "{% for i in range(999999999) %}{% endfor %}",
    ],
)
def test_hostile_or_failing_templates_end_in_one_kind_of_error(source: str) -> None:
    template = ChatTemplate(source, {})
    try:
        text = template.render([USER])
    except ChatTemplateError:
        return
    assert text == ""  # the sandbox made the attribute undefined


def test_a_template_that_is_not_jinja_names_the_line() -> None:
    with pytest.raises(ChatTemplateError, match="line 2"):
        ChatTemplate("\n{% if %}", {})


def test_named_templates_of_the_config_are_read_and_tools_get_their_own(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path)
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(
        '{"eos_token": {"content": "<|im_end|>"}, "chat_template": ['
        '{"name": "default", "template": "plain{{ eos_token }}"}, {"name": "tool_use", "template": "tools"}]}'
    )
    template = load_tokenizer(folder).template
    assert template.render([USER]) == "plain<|im_end|>"
    assert template.render([USER], tools=TOOLS) == "tools"


def test_tokens_listed_only_in_the_config_are_added(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path)
    size = load_tokenizer(folder).vocab_size
    config = '{"added_tokens_decoder": {"%d": {"content": "<|new|>", "special": true}}}'
    (folder / "tokenizer_config.json").write_text(config % size)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.special_ids["<|new|>"] == size
    assert tokenizer.encode("a<|new|>")[-1] == size
    assert tokenizer.vocab_size == size + 1
    (folder / "tokenizer_config.json").write_text(config % (size + 7))
    with pytest.raises(AzftError, match="which tokenizer_config"):
        load_tokenizer(folder)


def test_folders_that_are_no_chat_model_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    folder = tokenizer_folder(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(AzftError, match="no chat template"):
        load_tokenizer(folder).chat_template()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(AzftError, match=r"tokenizer\.json can't be read"):
        load_tokenizer(folder)


def test_the_fingerprint_follows_whatever_decides_the_tokens(tmp_path: Path) -> None:
    base = load_tokenizer(tokenizer_folder(tmp_path / "a"))
    assert load_tokenizer(tokenizer_folder(tmp_path / "b")).fingerprint == base.fingerprint
    other = template_source("chatml") + " "
    assert load_tokenizer(tokenizer_folder(tmp_path / "c", template=other)).fingerprint != base.fingerprint
    assert load_tokenizer(tokenizer_folder(tmp_path / "d", vocab_size=380)).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"max_position_embeddings": 4096}', 4096),
        ('{"n_positions": 1024}', 1024),
        ('{"text_config": {"max_position_embeddings": 8}}', 8),
        ("{}", None),
    ],
)
def test_context_length_is_read_from_the_config(config: str, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    assert context_length(tmp_path) == expected
