"""Secrets go, and what only looks like one to a careless pattern stays."""

from __future__ import annotations

import pytest

from azft.redact import MASK, Redactor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://x.blob.core.windows.net/c/b?sv=2022&sig=ab%2Fcd%3D&se=2026", "ab%2Fcd%3D"),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + "A" * 86 + "==;EndpointSuffix=x", "A" * 86),
        ("key " + "Zz0+/" * 17 + "Z==", "Zz0+/"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        (f"token was {JWT}", JWT),
        ("HF_TOKEN=hf_abcdefghijklmnopqrstuvwx", "hf_abcdefghijklmnopqrstuvwx"),
        ("using hf_abcdefghijklmnopqrstuvwx now", "hf_abcdefghijklmnopqrstuvwx"),
        ('{"api_key": "0123456789abcdef"}', "0123456789abcdef"),
        ("AZURE_CLIENT_SECRET=abc~def.ghi", "abc~def.ghi"),
        ("password: hunter22", "hunter22"),
        ("https://me:pa55word@host/x", "pa55word"),
        ("MY_VALUE is planted-value-1", "planted-value-1"),
    ],
)
def test_secrets_are_blotted_out(text: str, secret: str) -> None:
    redacted = Redactor({"MY_SECRET": "planted-value-1", "PATH": "/usr/bin"})(text)
    assert secret not in redacted
    assert MASK in redacted


@pytest.mark.parametrize(
    "text",
    [
        "step 3 loss 2.5 tokens_per_second: 1234.5 label_tokens=5120 tokens: 12345",
        '{"step": 3, "tokens": 51200, "tokens_per_second": 812.5, "token_accuracy": 0.5123}',
        "max_new_tokens=1024 num_tokens=99999 pad_token: <|endoftext|>",
        "python finetune/main.py --parameters /work/key/parameters.json",
        "sha256 " + "ab" * 32,
        "the path is /usr/bin",
        "primary key column: id",
    ],
)
def test_ordinary_lines_stay(text: str) -> None:
    assert Redactor({"PATH": "/usr/bin", "SSH_KEY": "/usr/bin/key", "A_TOKEN": "short"})(text) == text
