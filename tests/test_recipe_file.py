"""Reading a recipe file: lines, did-you-mean, all problems at once, overrides, YAML 1.2, and hostile input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azft.errors import ExitCode, RecipeError
from azft.findings import Finding
from azft.recipe_file import MAX_BYTES, RecipeFile, load_recipe

SMALLEST = "name: a\ntask: chat-completion\nmodel: m\ndata:\n  train: t.jsonl\n"


def load(tmp_path: Path, text: str | bytes, *overrides: str, **environment: str) -> RecipeFile:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recipe(path, overrides=overrides, environment=environment)


def findings(tmp_path: Path, text: str | bytes, *overrides: str, **environment: str) -> list[Finding]:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, *overrides, **environment)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.findings
    return list(caught.value.findings)


def only(tmp_path: Path, text: str | bytes, *overrides: str, **environment: str) -> Finding:
    found = findings(tmp_path, text, *overrides, **environment)
    assert len(found) == 1, [str(finding) for finding in found]
    return found[0]


def loads_or_finds(tmp_path: Path, text: str | bytes, *overrides: str) -> None:
    """What every input must do; anything else that is raised fails the test."""
    found: tuple[Finding, ...] | None = None
    try:
        load(tmp_path, text, *overrides)
    except RecipeError as error:
        found = error.findings
    assert found is None or found


class TestPlaces:
    def test_every_problem_is_reported_at_once_with_its_line(self, tmp_path: Path) -> None:
        text = "name: my run\ntask: chat-completoin\nmodle: m\ndata:\n  train: t.jsonl\ntraining:\n  epochs: many\n"
        found = findings(tmp_path, text)
        assert sorted((finding.line or 0, finding.code) for finding in found) == [
            (1, "recipe-bad-value"),
            (1, "recipe-missing-key"),
            (2, "recipe-bad-value"),
            (3, "recipe-unknown-key"),
            (7, "recipe-bad-value"),
        ]
        assert {finding.file for finding in found} == {str(tmp_path / "recipe.yaml")}

    @pytest.mark.parametrize(
        ("lines", "line", "fix"),
        [
            ("training:\n  learning_rte: 1", 7, "Did you mean `learning_rate`?"),
            ("modle: x", 6, "Did you mean `model`?"),
            ("learning_rate: 1", 6, "Did you mean `training.learning_rate`?"),
            ("rank: 8", 6, "Did you mean `technique.rank`?"),
            ("technique:\n  name: lora\n  rnk: 8", 8, "Did you mean `rank`?"),
            ("technique:\n  name: loar", 7, "Did you mean `lora`?"),
            ("training:\n  precision: fp23", 7, "Did you mean `fp32`?"),
            ("technique:\n  name: LoRA", 7, "Did you mean `lora`?"),
            ("technique: lora", 6, "Write: technique: {name: lora}"),
            (
                "technique:\n  name: full\n  rank: 8",
                8,
                "Technique `full` has none. Those that have it: `lora`, `dora`, `qlora`.",
            ),
            (
                "technique:\n  name: ia3\n  bits: 4",
                8,
                "Known here: feedforward_modules, modules_to_save, name, target_modules.",
            ),
            ("data: {train: t, columns: {mesages: x}}", 6, "Did you mean `messages`?"),
        ],
    )
    def test_a_typo_is_answered_with_what_was_meant(self, tmp_path: Path, lines: str, line: int, fix: str) -> None:
        text = SMALLEST if not lines.startswith("data") else SMALLEST.replace("data:\n  train: t.jsonl\n", "\n\n")
        found = only(tmp_path, text + lines + "\n")
        assert (found.line, found.fix) == (line, fix)

    def test_numbers_that_are_none_are_told_so(self, tmp_path: Path) -> None:
        found = only(tmp_path, SMALLEST + "training: {learning_rate: .nan}\n")
        assert found.message == "`training.learning_rate` should be a finite number, not nan."

    def test_a_file_of_rows_is_no_recipe(self, tmp_path: Path) -> None:
        rows = tmp_path / "train.jsonl"
        rows.write_text('{"messages": []}\n{"messages": []}\n')
        with pytest.raises(RecipeError) as caught:
            load_recipe(rows)
        (found,) = caught.value.findings
        assert "a file of rows" in found.message

    def test_a_rule_between_keys_points_at_one_of_them(self, tmp_path: Path) -> None:
        text = SMALLEST + "training:\n  epochs: 1\n  global_batch_size: 5\n  micro_batch_size: 2\n"
        assert only(tmp_path, text).line == 8

    def test_a_missing_section_is_named_with_its_meaning(self, tmp_path: Path) -> None:
        found = only(tmp_path, "name: a\ntask: chat-completion\nmodel: m\n")
        assert found.message == "Key `data` is missing."
        assert found.fix == "The rows to learn from."

    def test_line_of_falls_back_to_the_enclosing_key(self, tmp_path: Path) -> None:
        read = load(tmp_path, SMALLEST)
        assert read.line_of("data", "train") == 5
        assert read.line_of("data", "validation") == 4
        assert read.line_of("training", "epochs") == 1

    def test_paths_are_relative_to_the_recipe(self, tmp_path: Path) -> None:
        read = load(tmp_path, SMALLEST)
        assert read.resolve(read.recipe.data.train) == (tmp_path / "t.jsonl").resolve()


class TestOverrides:
    def test_a_section_that_only_an_override_names_is_found_where_it_is_named(self, tmp_path: Path) -> None:
        (found,) = findings(tmp_path, SMALLEST, "techniqe.rank=4")
        assert (found.where, found.fix) == ("--set techniqe.rank", "Did you mean `technique`?")

    def test_set_wins_over_the_environment_and_the_environment_over_the_file(self, tmp_path: Path) -> None:
        text = SMALLEST + "training: {epochs: 1, seed: 1, max_length: 100}\n"
        read = load(
            tmp_path,
            text,
            "training.epochs=3",
            AZFT_RECIPE__TRAINING__EPOCHS="2",
            AZFT_RECIPE__TRAINING__SEED="2",
        )
        assert (read.recipe.training.epochs, read.recipe.training.seed, read.recipe.training.max_length) == (3, 2, 100)

    def test_one_may_stand_alone(self, tmp_path: Path) -> None:
        (tmp_path / "r.yaml").write_text(SMALLEST)
        assert load_recipe(tmp_path / "r.yaml", overrides="training.epochs=2").recipe.training.epochs == 2

    def test_values_are_yaml(self, tmp_path: Path) -> None:
        values = ("technique={name: lora, target_modules: [q, v]}", "training.packing=false", "description=a=b")
        read = load(tmp_path, SMALLEST, *values)
        assert read.recipe.to_dict()["technique"]["target_modules"] == ["q", "v"]
        assert read.recipe.training.packing is False
        assert read.recipe.description == "a=b"

    def test_a_key_of_the_technique_is_the_defaults_where_the_recipe_names_none(self, tmp_path: Path) -> None:
        technique = load(tmp_path, SMALLEST, "technique.rank=4").recipe.to_dict()["technique"]
        assert (technique["name"], technique["rank"]) == ("lora", 4)
        named = load(tmp_path, SMALLEST, AZFT_RECIPE__TECHNIQUE__NAME="full").recipe.to_dict()["technique"]
        assert named == {"name": "full"}

    def test_another_technique_leaves_the_keys_of_the_files_own(self, tmp_path: Path) -> None:
        text = SMALLEST + "technique: {name: lora, rank: 8, alpha: 8, init: gaussian}\n"
        assert load(tmp_path, text, "technique.name=full").recipe.to_dict()["technique"] == {"name": "full"}
        dora = load(tmp_path, text, "technique.name=dora").recipe.to_dict()["technique"]
        assert (dora["name"], dora["rank"], dora["init"]) == ("dora", 8, "gaussian")
        for wrong in (
            ("technique.rank=4", "technique.name=full"),  # said on the command line, so meant
            ("technique.name=ia3", "technique.rank=4"),
        ):
            assert [f.code for f in findings(tmp_path, text, *wrong)] == ["recipe-unknown-key"]
        assert [f.code for f in findings(tmp_path, text.replace("rank", "rnk"), "technique.name=ia3")] == [
            "recipe-unknown-key"
        ]

    def test_an_empty_value_unsets_an_optional_key(self, tmp_path: Path) -> None:
        assert load(tmp_path, SMALLEST + "  validation: v.jsonl\n", "data.validation=").recipe.data.validation is None

    @pytest.mark.parametrize(
        ("assignment", "where"),
        [
            ("training.epochs=many", "--set training.epochs"),
            ("training.epochz=1", "--set training.epochz"),
            ("training={epochs: many}", "--set training"),
            ("model.size=3", "--set model.size"),
            ("training..epochs=3", "--set training..epochs"),
            ("training.epochs=[1", "--set training.epochs"),
            ("training.epochs", "--set"),
            ("modes.local.processes=2", "--set modes.local.processes"),
        ],
    )
    def test_a_bad_override_is_blamed_on_itself_and_not_on_a_line(
        self, tmp_path: Path, assignment: str, where: str
    ) -> None:
        text = SMALLEST + "training:\n  epochs: 1\n"
        assert only(tmp_path, text, assignment).where == where

    def test_a_bad_variable_is_blamed_on_itself(self, tmp_path: Path) -> None:
        found = only(tmp_path, SMALLEST, AZFT_RECIPE__TRAINING__EPOCHZ="1")
        assert (found.where, found.fix) == ("AZFT_RECIPE__TRAINING__EPOCHZ", "Did you mean `epochs`?")


class TestVariables:
    def test_variables_are_read_as_if_their_text_stood_there(self, tmp_path: Path) -> None:
        text = SMALLEST.replace("name: a", "name: run-${WHO:-nobody}") + "training:\n  epochs: ${EPOCHS}\n"
        read = load(tmp_path, text, EPOCHS="2")
        assert (read.recipe.name, read.recipe.training.epochs) == ("run-nobody", 2)

    def test_a_quoted_variable_stays_text(self, tmp_path: Path) -> None:
        assert load(tmp_path, SMALLEST + 'description: "${N}"\n', N="5").recipe.description == "5"

    def test_an_unset_variable_is_an_error_with_its_line(self, tmp_path: Path) -> None:
        found = only(tmp_path, SMALLEST.replace("model: m", "model: ${MODEL_FOLDER}"))
        assert (found.code, found.line) == ("recipe-unset-variable", 3)
        assert "MODEL_FOLDER" in found.message

    def test_a_variable_cannot_bring_in_structure(self, tmp_path: Path) -> None:
        read = load(tmp_path, SMALLEST + "description: ${EVIL}\n", EVIL="x\ntrust_remote_code: true")
        assert read.recipe.trust_remote_code is False


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("2e-4", 2e-4), ("2.0e-4", 2e-4), ("1", 1), (".5", 0.5), ("0x1", 1), ("1.", 1), ("010", None), ("1:30", None)],
    )
    def test_numbers_are_what_they_look_like(self, tmp_path: Path, text: str, value: float | None) -> None:
        source = SMALLEST + f"training:\n  learning_rate: {text}\n"
        if value is None:
            only(tmp_path, source)  # 10 is too much, and 1:30 is text: neither is 8 or 90
        else:
            assert load(tmp_path, source).recipe.learning_rate == value

    @pytest.mark.parametrize("word", ["no", "on", "yes", "off", "y", "2024-01-01", "1:30"])
    def test_words_of_yaml_1_1_are_text(self, tmp_path: Path, word: str) -> None:
        assert load(tmp_path, SMALLEST + f"description: {word}\n").recipe.description == word

    def test_true_is_not_a_number(self, tmp_path: Path) -> None:
        found = only(tmp_path, SMALLEST + "training: {epochs: true}\n")
        assert found.message == "`training.epochs` should be a number, not true."

    def test_a_duplicate_key_is_an_error_with_both_lines(self, tmp_path: Path) -> None:
        found = only(tmp_path, SMALLEST + "model: other\n")
        assert (found.code, found.line) == ("recipe-duplicate-key", 6)
        assert "line 3" in found.message

    def test_a_byte_order_mark_is_no_problem(self, tmp_path: Path) -> None:
        assert load(tmp_path, b"\xef\xbb\xbf" + SMALLEST.encode()).recipe.name == "a"

    def test_windows_line_ends_count_as_one_line(self, tmp_path: Path) -> None:
        assert only(tmp_path, SMALLEST.replace("\n", "\r\n") + "x: 1\r\n").line == 6


class TestHostile:
    @pytest.mark.parametrize(
        ("text", "code"),
        [
            (b"", "not-a-mapping"),
            (b"# nothing\n", "not-a-mapping"),
            (b"- a\n- b\n", "not-a-mapping"),
            (b"just text", "not-a-mapping"),
            (b"name: [1, 2\n", "not-yaml"),
            (b"name: a\n\tmodel: m\n", "not-yaml"),
            (b"a: 1\n---\nb: 2\n", "not-yaml"),
            (b"a: \xff\n", "not-utf8"),
            (b"a: \x00\n", "not-yaml"),
            (b'name: "\\ud800"\n', "not-yaml"),
            (b"? [a, b]\n: 1\n", "not-yaml"),
            (b"a: !!python/object/apply:os.system [ls]\n", "unknown-key"),
            (b"a: !!python/name:os.system\n", "not-yaml"),
            (b"a: !!int many\n", "not-yaml"),
            (b"name: " + b"9" * 5000 + b"\n", "not-yaml"),
            (b"a: &x [*x]\n", "not-yaml"),
            (b"a: " + b"[" * 5000 + b"\n", "not-yaml"),
            (b"a: " + b"{a: " * 30 + b"1" + b"}" * 30 + b"\n", "not-yaml"),
            (b"#" * (MAX_BYTES + 1), "too-large"),
        ],
    )
    def test_every_broken_file_is_a_finding(self, tmp_path: Path, text: bytes, code: str) -> None:
        assert f"recipe-{code}" in {finding.code for finding in findings(tmp_path, text)}

    def test_aliases_cannot_grow_without_bound(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 15)]
        assert "more than 20,000 values" in only(tmp_path, "\n".join(lines)).message

    def test_a_file_that_is_not_there_or_a_folder_is_said_so(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.yaml", tmp_path, Path("nul\0.yaml")):
            with pytest.raises(RecipeError) as caught:
                load_recipe(path)
            assert caught.value.findings[0].code in {"recipe-not-found", "recipe-unreadable"}

    def test_an_endless_file_is_not_read_to_its_end(self) -> None:
        with pytest.raises(RecipeError) as caught:
            load_recipe("/dev/zero")
        assert caught.value.findings[0].code == "recipe-too-large"

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
    def test_no_bytes_raise_anything_but_a_recipe_error(self, tmp_path: Path, text: bytes) -> None:
        loads_or_finds(tmp_path, text)

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        tail=st.recursive(
            st.sampled_from(
                ["1", "true", "~", "x", "1e999", ".nan", "''", "!!binary aGk=", "!!set {a}", "*a", "&a 1", "<<"]
            ),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
                st.dictionaries(
                    st.sampled_from(["name", "rank", "train", "columns", "local", "<<", "lora", "1"]), inner, max_size=3
                ).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"),
            ),
            max_leaves=8,
        ),
        key=st.sampled_from(["name", "task", "model", "data", "technique", "training", "modes", "output", "x"]),
    )
    def test_no_values_raise_anything_but_a_recipe_error(self, tmp_path: Path, key: str, tail: str) -> None:
        gone = ("data", "  ") if key == "data" else key
        kept = "".join(line + "\n" for line in SMALLEST.splitlines() if not line.startswith(gone))
        loads_or_finds(tmp_path, f"{kept}{key}: {tail}\n")

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(assignment=st.text(max_size=40) | st.from_regex(r"[a-z.]{1,12}=[^\n]{0,20}", fullmatch=True))
    def test_no_override_raises_anything_but_a_recipe_error(self, tmp_path: Path, assignment: str) -> None:
        loads_or_finds(tmp_path, SMALLEST, assignment)
