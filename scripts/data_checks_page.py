"""Writes docs/data-checks.md from the table of data rules (azft/data/rules.py) and the comparison with FineLint below.

Run from the repository root: python scripts/data_checks_page.py. A test fails when the page is not current.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from azft.data.near_duplicates import MIN_BYTES, PROMPT_THRESHOLD, THRESHOLD  # noqa: E402
from azft.data.rules import GROUPS, PREFIX  # noqa: E402

PAGE = ROOT / "docs" / "data-checks.md"

INTRODUCTION = f"""\
# What `azft check` finds in data

<!-- Written by scripts/data_checks_page.py from azft/data/rules.py; a test fails when it is not current. -->

`azft check` reads every row of every file of a recipe once, as a stream. Errors stop a run, warnings and infos don't.
Each finding has a file, a line (in a Parquet file the row's number), what is wrong and what to do. Of each code the
first five are shown for each file, then how many more there are; the counts are exact.

Good to know:

- **Formats.** `.jsonl` (or `.ndjson`): a row a line. `.json`: one array of rows. `.csv`: a header; lists stand as JSON
  text in their cells. `.parquet`: native lists or JSON text.
- **Limits.** A line, row or cell longer than 16 MiB is reported and passed over without being held. Memory does not
  grow with a file but for 16 bytes a row, and 40 to 64 more where near-duplicates are
  looked for.
- **Near-duplicates** are rows that share at least {THRESHOLD:.0%} (Jaccard) of their text's 8-byte shingles, case,
  spacing and system turns left aside, or, in another file, {PROMPT_THRESHOLD:.0%} of their prompt's; texts below {MIN_BYTES} bytes are not compared. Candidates come from MinHash
  (24 hashes in 6 bands of 4) and are compared exactly, so what is reported is true; of pairs at the threshold one in a
  hundred is missed, of pairs at 95 % one in 25,000. A `context` that several questions are asked about makes no copies: question and
  answer must be alike, and the contexts, too. `--no-near-duplicates` leaves it out.
- **The model's view.** The model's chat template (its family's, where a stand-in takes the model's place) is tried on the rows:
  on one of each shape (roles, keys, white space at the ends of texts) and on every row that could be a case of its own, so
  that what the template refuses is found, in one process. Where the model is on this machine its
  tokenizer counts the tokens of rows that may be too long. Needs `azft[data]`; without it a note says so.
"""

COMPARISON = """\
## Beside FineLint

FineLint 0.2.0 (PyPI) and azft on the same damaged files, 24 November 2026; the damage is the table in
tests/data/test_check_chat.py and the pairs of tests/data/test_check_pairs.py. "stops" means that no other row is looked
at after this one.

| damage | azft | FineLint 0.2.0 |
| --- | --- | --- |
| line cut off, single quotes, two rows on a line, raw tab or NUL | `not-json`, with the cause | MALFORMED_JSON |
| NaN as a value | `not-json` | no finding |
| bytes that are not UTF-8 | `not-utf8` | stops |
| half a surrogate pair | `lone-surrogate` | no finding |
| deep nesting; a number of 6,000 digits | `too-deep`; `number-range` | stops with a traceback |
| 1e999 | `number-range` | no finding |
| a key given twice in an object | `duplicate-key` | no finding |
| empty line; a row that is no object | `empty-line`; `not-object` | EMPTY_JSONL_LINE; JSONL_RECORD_NOT_OBJECT |
| UTF-16, gzip, a byte order mark, Windows line ends | `utf16`, `compressed`, `bom`, `crlf` | stops at the first two, no finding for the others |
| column missing or null, no messages | `missing-column`, `no-messages` | CHAT_MESSAGES_MISSING, CHAT_MESSAGES_EMPTY |
| misspelt column or key | `unknown-column`, `unknown-key`, with a suggestion | no finding |
| ShareGPT, Alpaca or prompt-completion rows | `missing-column`, with the command that converts the file | read as such; stops where a file mixes them |
| message, role, name or content of a wrong type | `wrong-type` | CHAT_MESSAGE_NOT_OBJECT, CHAT_ROLE_INVALID, CHAT_CONTENT_INVALID; no finding for name |
| unknown or missing role | `unknown-role` (with what it probably is), `missing-role` | CHAT_ROLE_INVALID |
| content missing, empty, blank | `missing-content`, `empty-content` | CHAT_EMPTY_TURN |
| content as text parts | read; a part that is not text is `content-part` | CHAT_CONTENT_INVALID for good ones too |
| no assistant turn | `no-assistant` | CHAT_NO_ASSISTANT_TARGET |
| ends with a user turn; assistant speaks first | `last-not-assistant`; `assistant-first` | no finding |
| two turns of one role; late system turn; a turn repeated | `repeated-role`; `late-system`; `repeated-turn` | CHAT_CONSECUTIVE_ROLE; CHAT_SYSTEM_POSITION; CHAT_DUPLICATE_TURN |
| wrong or misplaced `weight`; every weight 0 | `bad-weight`, `weight-on-other`, `nothing-to-learn` | no finding |
| mojibake, U+FFFD, control characters, unescaped LaTeX | `mojibake`, `replacement-character`, `control-character` | no finding |
| `tools` malformed; a function described twice | `tools-malformed`; `tool-name-repeated` | TOOLS_INVALID; TOOL_NAME_DUPLICATE |
| tool call malformed; id used twice | `tool-call`; `tool-call-id-reused` | TOOL_CALLS_INVALID; TOOL_CALL_ID_DUPLICATE |
| arguments not JSON | `tool-arguments` | TOOL_ARGUMENTS_INVALID_JSON |
| arguments JSON, but no object | `tool-arguments` | no finding |
| function called but not described | `tool-undefined` | TOOL_DEFINITION_MISSING |
| answer to no call; call never answered | `tool-answer-unknown`; `tool-call-unanswered` | TOOL_RESULT_ORPHANED; no finding |
| parallel tool calls: neighbouring tool turns | no finding, as it should be | CHAT_CONSECUTIVE_ROLE |
| `parallel_tool_calls` not a boolean | `wrong-type` | PARALLEL_TOOL_CALLS_INVALID |
| CSV: cells too many or too few; broken quotes | `csv-width`; `csv-broken` | CSV_ROW_WIDTH_MISMATCH; MALFORMED_CSV |
| copies | `duplicate-row` | EXACT_DUPLICATE |
| copies but for case and spacing; similar rows | `near-duplicate` | NORMALIZED_DUPLICATE; NEAR_DUPLICATE |
| short rows under one long system turn | no finding, as it should be | NEAR_DUPLICATE |
| one prompt, two answers (case and spacing aside) | `conflicting-answers` | CONFLICTING_OUTPUT |
{EARLIER}| training row in held-out data; the same but for case; similar | `leak`; `near-leak` | CROSS_SPLIT_EXACT, _NORMALIZED, _NEAR_EXAMPLE |
| training prompt in held-out data with another answer (case and spacing aside) | `prompt-leak` | CROSS_SPLIT_EXACT, _NORMALIZED_CONTEXT, CROSS_SPLIT_CONFLICTING_TARGET |
| similar (not equal) prompt in held-out data with an unlike answer | `near-prompt-leak` | CROSS_SPLIT_NEAR_CONTEXT |
| rows too long for the model; too few rows; one file given twice | `long-row` or `row-too-long`; `few-rows`; `same-file` | no finding |
| a line of 100 MB | `line-too-long`, within 120 MiB of memory | held in memory whole |

What FineLint's generic mode finds in other columns (EMPTY_RECORD, MISSING_REQUIRED_FIELD, BLANK_TEXT_FIELD,
NON_STRING_TEXT_FIELD and the like) is `missing-column`, `empty-content` and `wrong-type` here, for the task's columns.
FineLint also reads ShareGPT and Alpaca files, which azft converts first (`azft convert`).

8,000 generated chats of 910 bytes, near-duplicates included: FineLint 32.1 s of CPU and 209 MiB, azft 0.5 s and 56 MiB
(whole processes, one core each, the same machine and minute, 24 November 2026).
"""
EARLIER = "| one prompt, two answers, in an earlier turn of the conversation | no finding: conversations often open alike | CONFLICTING_OUTPUT |\n"


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for title, rules in GROUPS.items():
        lines += [
            f"## {title}",
            "",
            "| code | severity | what it says | what to do | why it matters |",
            "| --- | --- | --- | --- | --- |",
        ]
        for rule in rules:
            cells = (f"`{PREFIX}{rule.code}`", str(rule.severity), rule.message, rule.fix, rule.why)
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
        lines.append("")
    return "\n".join(lines) + "\n" + COMPARISON.replace("{EARLIER}", EARLIER)


def _cell(text: str) -> str:
    plain = text.replace("{{", "{").replace("}}", "}").replace("|", "\\|")
    return "(depends on the case)" if plain == "{fix}" else plain


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
