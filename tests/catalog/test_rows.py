from __future__ import annotations

import jinja2
import pytest

from azft.catalog.rows import azureml_model_name, closest, find, load_catalog, parse_catalog
from azft.errors import AzftError
from azft.training.stand_in_architectures import ARCHITECTURES

FAMILY = "families:\n  f: {template: t, special_tokens: {eos: e, pad: p, stop: s}}\n"
ROW = "  - {name: A, family: f, source: s, date: 2026-01-01}\n"


def test_every_row_says_its_source_and_date_and_decoders_have_a_template() -> None:
    for row in load_catalog().models:
        assert row.source
        assert row.date.year >= 2026
        template = load_catalog().families[row.family].chat_template
        assert template is None if row.family in ("t5", "bert", "roberta", "clip") else "messages" in str(template)


def test_every_known_architecture_has_a_stand_in() -> None:
    assert {row.architecture for row in load_catalog().models if row.architecture} <= set(ARCHITECTURES)


@pytest.mark.parametrize(
    "name",
    [
        "Phi-4-mini-instruct",
        "phi-4-MINI-instruct",
        "microsoft/Phi-4-mini-instruct",
        "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1",
        "azureml://registries/azureml/models/phi-4-mini-instruct/labels/latest",
    ],
)
def test_a_row_is_found_by_any_of_its_names_in_any_case(name: str) -> None:
    row = find(name)
    assert row is not None
    assert row.name == "Phi-4-mini-instruct"
    assert row.architecture == "Phi3ForCausalLM"


def test_an_unknown_name_has_no_row_but_a_neighbour() -> None:
    assert find("phi4-mini-instruct") is None
    assert closest("phi4-mini-instruct") == "Phi-4-mini-instruct"
    assert closest("something else entirely") is None
    for written, meant in {
        "Phi4-mini": "Phi-4-mini-instruct",
        "phi4": "Phi-4",
        "llama3.1": "Llama-3.1-8B-Instruct",
        "bert": "bert-base-cased",
        "smollm2": "smollm2-135m-instruct",
        "mistral-7b": "Mistral-7B-Instruct-v0.3",
        "gemma-2b": "gemma-2-2b-it",
        "Phi-4-mini-instrct": "Phi-4-mini-instruct",
        "x": None,
        "": None,
    }.items():
        assert closest(written) == meant, written


def test_azureml_ids_of_registries_and_workspaces_are_understood() -> None:
    assert azureml_model_name("azureml://locations/eastus2/workspaces/0000/models/mine/versions/3") == "mine"
    assert azureml_model_name("azureml:mine:3") is None
    assert azureml_model_name("Phi-4") is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (FAMILY + "models:\n" + ROW + "  - name: B\n    family: f\n    sauce: x\n", 7, "sauce"),
        (FAMILY + "models:\n" + ROW + "  - {name: B, family: f, source: s}\n", 5, "date"),
        (FAMILY + "models:\n  - {name: A, family: g, source: s, date: 2026-01-01}\n", 4, "family `g`"),
        (FAMILY + "models:\n" + ROW + "  - {name: a, family: f, source: s, date: 2026-01-01}\n", 5, "names both"),
        (FAMILY + "models: [\n", 4, "YAML"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named_by_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(AzftError) as error:
        parse_catalog(text, name="models.yaml")
    assert f"models.yaml:{line}:" in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("family", sorted(name for name, row in load_catalog().families.items() if row.template))
def test_templates_render_a_longer_chat_as_a_continuation_of_the_shorter(family: str) -> None:
    row = load_catalog().families[family]
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    template = environment.from_string(str(row.chat_template), globals={"raise_exception": raise_exception})
    special = {"bos_token": row.special_tokens.bos, "eos_token": row.special_tokens.eos}
    chat = [{"role": role, "content": f"{role} {turn}"} for turn in range(2) for role in ("user", "assistant")]
    prompt = template.render(messages=chat[:1], add_generation_prompt=True, **special)
    shorter = template.render(messages=chat[:2], **special)
    longer = template.render(messages=chat, **special)
    assert shorter.startswith(prompt)
    assert longer.startswith(shorter)
    assert shorter.removeprefix(prompt).strip().endswith(row.special_tokens.stop)
