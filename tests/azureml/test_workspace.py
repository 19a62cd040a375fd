from __future__ import annotations

import json
from pathlib import Path

import pytest

from azft.azureml.workspace import Workspace, find_workspace
from azft.errors import UsageError

ID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without `az`, an empty environment, and a folder to stand in."""
    for name in ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "az"))
    (tmp_path / "az").mkdir()
    here = tmp_path / "project" / "deep"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def config(folder: Path, name: str = "ws") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"subscription_id": ID, "resource_group": "rg", "workspace_name": name}
    (folder / "config.json").write_text(json.dumps(values))


def test_flags_come_first() -> None:
    found = find_workspace(subscription=ID, resource_group="rg", workspace="ws")
    assert found == Workspace(ID, "rg", "ws", "flags")
    assert found.id.endswith("/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws")


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", ID)
    monkeypatch.setenv("AZURE_RESOURCE_GROUP", "rg")
    monkeypatch.setenv("AZUREML_WORKSPACE_NAME", "ws")
    assert find_workspace() == Workspace(ID, "rg", "ws", "the environment")


def test_what_azure_ml_sets_inside_its_own_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_ARM_SUBSCRIPTION", ID)
    monkeypatch.setenv("AZUREML_ARM_RESOURCEGROUP", "rg")
    monkeypatch.setenv("AZUREML_ARM_WORKSPACE_NAME", "ws")
    assert find_workspace().name == "ws"


def test_config_json_is_looked_for_upwards_and_the_nearest_wins(nowhere: Path) -> None:
    config(nowhere.parent.parent, "far")
    assert find_workspace().name == "far"
    config(nowhere.parent / ".azureml", "near")
    found = find_workspace()
    assert found.name == "near"
    assert found.found_by == str(nowhere.parent / ".azureml" / "config.json")


def test_a_models_config_json_is_no_workspace(nowhere: Path) -> None:
    (nowhere / "config.json").write_text('{"architectures": ["Phi3ForCausalLM"]}')
    (nowhere.parent / "config.json").write_text("{broken")
    config(nowhere.parent.parent)
    assert find_workspace().name == "ws"


def test_a_config_json_with_a_scope(nowhere: Path) -> None:
    scope = f"/subscriptions/{ID}/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
    (nowhere / "config.json").write_text(json.dumps({"Scope": scope}))
    assert find_workspace().id == scope


def test_the_defaults_of_az(tmp_path: Path) -> None:
    (tmp_path / "az" / "config").write_text("[defaults]\ngroup = rg\nworkspace = ws\n[cloud]\nname = AzureCloud\n")
    (tmp_path / "az" / "clouds.config").write_text(f"[AzureCloud]\nsubscription = {ID}\n")
    found = find_workspace()
    assert (found.subscription, found.resource_group, found.name) == (ID, "rg", "ws")
    assert "az's defaults" in found.found_by


def test_the_subscription_that_az_is_signed_in_to(tmp_path: Path) -> None:
    profile = {"subscriptions": [{"id": OTHER, "isDefault": False}, {"id": ID, "isDefault": True}]}
    (tmp_path / "az" / "azureProfile.json").write_text("\ufeff" + json.dumps(profile), encoding="utf-8")
    found = find_workspace(resource_group="rg", workspace="ws")
    assert found.subscription == ID
    assert found.found_by.startswith("az's sign-in (")
    assert "(subscription), flags (resource group, workspace)" in found.found_by


def test_a_flag_replaces_one_part_and_is_named(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    config(nowhere)
    found = find_workspace(workspace="other")
    assert (found.name, found.resource_group) == ("other", "rg")
    assert "flags (workspace)" in found.found_by


def test_without_any_it_says_every_way() -> None:
    with pytest.raises(UsageError) as error:
        find_workspace(workspace="ws")
    assert "subscription and resource group not known" in error.value.message
    for way in ("--subscription and --resource-group", "AZURE_SUBSCRIPTION_ID", "config.json", "az configure"):
        assert way in error.value.fix


def test_a_subscriptions_name_is_not_its_id() -> None:
    with pytest.raises(UsageError, match="is not an id"):
        find_workspace(subscription="Pay-As-You-Go", resource_group="rg", workspace="ws")


def test_the_command_of_az_is_the_one_that_sets_what_is_missing() -> None:
    """`az configure --defaults` knows no subscription."""
    with pytest.raises(UsageError) as error:
        find_workspace(resource_group="rg", workspace="ws")
    assert "az account set --subscription" in error.value.fix
    assert "az configure" not in error.value.fix
    with pytest.raises(UsageError) as error:
        find_workspace(subscription=ID, resource_group="rg")
    assert error.value.fix.endswith("az's defaults: az configure --defaults workspace=...")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"subscription_id": "x", "workspace_name": "ws"', "it is no JSON"),
        ('{"subscription_id": "x", "resource_group": "rg"}', "it has no workspace_name"),
        ('{"resource_group": "rg"}', "it has no subscription_id and workspace_name"),
        ('{"architectures": ["Phi3ForCausalLM"]}', None),
    ],
)
def test_a_config_json_that_is_passed_over_is_named(nowhere: Path, text: str, why: str | None) -> None:
    (nowhere.parent / "config.json").write_text(text)
    with pytest.raises(UsageError) as error:
        find_workspace()
    if why is None:  # a model's
        assert "passed over" not in error.value.fix
    else:
        assert f"{nowhere.parent / 'config.json'} was passed over: {why}." in error.value.fix
