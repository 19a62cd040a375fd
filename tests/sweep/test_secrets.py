from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import requests
from nbclient import NotebookClient

import azft
from azft.azureml.connection import forget_connections
from azft.cli import main
from azft.emulator import Emulator, Fault
from azft.emulator.faults import ALWAYS
from azft.errors import AzftError
from azft.rehearsal.session import Rehearsal
from tests.sweep.flows import FLOWS
from tests.sweep.sweep import KINDS, Sweep
from tests.sweep.world import World

PLANTED = {
    "AZURE_CLIENT_SECRET": "planted-client-secret-4711",
    "MY_API_KEY": "planted-api-key-8f3c1d",
    "HF_TOKEN": "hf_plantedtokenplantedtoken",
    "STORAGE_CONNECTION_STRING": "planted-connection-string-99aa",
    "DB_PASSWORD": "planted-password-zz81",
}
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "chat_completion.ipynb"
_GIVEN = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]+|(?<=[?&]sig=)[^&\"'\s\\]{8,}"
    r"|(?<=\"primaryKey\":\")[^\"]+|(?<=\"secondaryKey\":\")[^\"]+|(?<=\"sasToken\":\")[^\"]+|(?<=\"key\":\")[^\"]{20,}"
)
"""Tokens, signatures and keys in what the emulator answers."""


class Watch:
    """Notes every secret that an emulator gives out, and looks for them."""

    def __init__(self, emu: Emulator) -> None:
        self.secrets = {*PLANTED.values(), emu.identity_header, emu.secret}
        handle = emu.handle

        def noted(request: Any) -> Any:
            response = handle(request)
            self.secrets.update(_GIVEN.findall(response.content().decode("utf-8", "replace")))
            return response

        emu.handle = noted  # type: ignore[method-assign]

    def search(self, where: str, text: str) -> None:
        """Raise when a secret stands in a text."""
        found = [secret for secret in self.secrets if secret in text]
        assert not found, f"{len(found)} secrets in {where}: {text[max(0, text.find(found[0]) - 120) :][:160]}"

    def search_files(self, *folders: Path) -> int:
        """Look through every file of some folders; how many there were."""
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        for file in files:
            self.search(str(file), file.read_bytes().decode("utf-8", "replace"))
        return len(files)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    forget_connections()
    yield
    forget_connections()


def everything_about(error: BaseException) -> str:
    """All that a person may come to see of an exception, its causes with it."""
    seen, texts = [error], ["".join(traceback.format_exception(error))]
    while seen:
        current = seen.pop()
        texts += [str(current), repr(current), repr(current.args), str(getattr(current, "answer", ""))]
        seen += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
    return "\n".join(texts)


@pytest.mark.parametrize("flow", FLOWS)
def test_no_flow_leaves_a_secret_in_a_file_or_an_error(
    sweep: Sweep, flow: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.root.manager.disable = logging.NOTSET  # `light` silences what pytest would keep; here it is looked at
    count = len(sweep.requests(flow))
    number = 0
    for name in ("throttled, lasting", "connection-reset, lasting", "token-expired, lasting", "server-error, once"):
        for at in {0, count // 3, 2 * count // 3, count - 1}:
            with sweep.world(sweep.ready(flow)) as world:
                watch = Watch(world.emu)

                def strike(current: int, _request: Any, at: int = at, name: str = name, world: World = world) -> None:
                    if current == at:
                        for fault, params in KINDS[name].faults:
                            world.emu.faults.add(Fault(fault, times=ALWAYS, params=params))

                world.on_request = strike
                client = world.client()
                caplog.clear()
                try:
                    result = FLOWS[flow].act(client)
                    watch.search("the result", repr(result))
                    if hasattr(result, "_repr_html_"):
                        watch.search("its page", result._repr_html_())
                except Exception as error:
                    watch.search("the exception", everything_about(error))
                number += watch.search_files(*(folder for folder in (world.home,) if folder.is_dir()))
                watch.search("the logs", caplog.text)
                watch.search("the streams", "".join(capfd.readouterr()))
                assert len(watch.secrets) > len(PLANTED) + 1
    if flow.startswith("submit"):
        assert number > 10


COMMANDS = ("status", "logs", "runs --remote", "register", "deploy", "down --yes", "down --dry-run", "outputs")


@pytest.mark.parametrize("fault", ["", "connection-reset", "token-expired", "server-error"])
def test_no_command_prints_a_secret(
    sweep: Sweep, fault: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sweep.world(sweep.ready("deploy serverless")) as world:
        watch = Watch(world.emu)
        monkeypatch.setenv("AZFT_HOME", str(world.home))
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", world.emu.settings.subscription)
        run = sweep.template.plans["maas"].run_name
        told = ""
        for command in COMMANDS:
            for form in ("table", "json"):
                forget_connections()
                world.emu.faults.clear()
                if fault:
                    world.emu.faults.add(Fault(fault, times=ALWAYS))
                name, *options = command.split()
                named = [] if name == "runs" else [run]
                main.run(["--debug", name, *named, *options, "--auth", "managed-identity", "-o", form])
                told += "".join(capfd.readouterr())
        assert len(told) > 500
        watch.search("what the commands printed", told)
        assert watch.search_files(world.home) > 5
        assert fault or run in told


@pytest.mark.parametrize("flow", ["submit maas", "submit azft", "watch azft", "download", "chat serverless"])
def test_an_address_that_is_not_reached_is_not_told_with_its_signature(sweep: Sweep, flow: str) -> None:
    """The HTTP library puts the whole address into its words, and a signature stands in it."""
    total = len(sweep.requests(flow))
    signed = [number for number in range(total) if "sig=" in sweep.requests(flow)[number].url]
    for at in [*signed[:2], total - 1]:
        with sweep.world(sweep.ready(flow)) as world:
            watch = Watch(world.emu)

            def refuse(current: int, request: Any, at: int = at) -> None:
                if current >= at:
                    address = request.url.partition("127.0.0.1:1")[2]
                    raise requests.ConnectionError(
                        f"HTTPSConnectionPool(host='127.0.0.1', port=1): Max retries exceeded with url: {address} "
                        "(Caused by NewConnectionError('Failed to establish a new connection: [Errno 111]'))"
                    )

            world.on_request = refuse
            try:
                FLOWS[flow].act(world.client())
            except AzftError as error:
                watch.search("the exception", everything_about(error))
            watch.search_files(world.home)


def test_no_page_of_a_plan_shows_a_secret(sweep: Sweep) -> None:
    with sweep.world(sweep.done("submit azft")) as world:
        watch = Watch(world.emu)
        for plan in sweep.template.plans.values():
            watch.search("a plan's page", plan._repr_html_())
            watch.search("a plan", plan.to_json().decode())
        watch.search("a run's page", world.client().run("azft")._repr_html_())


@pytest.mark.slow
def test_no_cell_of_the_notebook_shows_a_secret_nor_leaves_one_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The notebook goes to Azure, which is an emulator in this process: so what it hands out is known here."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = first.source.replace('where = "rehearsal"', 'where = "azure"')
    monkeypatch.setenv("AZFT_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    recipe = azft.load_recipe(azft.init(work / "bakery").recipe, overrides=["modes.maap.compute=gpu-cluster"])
    with Rehearsal(azft.plan(recipe, mode="maap"), home=tmp_path / "elsewhere") as stage:
        watch = Watch(stage.emulator)
        monkeypatch.delenv("AZFT_HOME")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", PLANTED["AZURE_CLIENT_SECRET"])  # the rehearsal took it away
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(work)}}).execute()
        kept = stage.home / "azure" / "blobs"  # what was uploaded, logged and written by the steps
    nbformat.write(notebook, work / "executed.ipynb")
    assert watch.search_files(work) > 20
    assert watch.search_files(kept) > 20
    watch.search("the streams", "".join(capfd.readouterr()))
    given = watch.secrets - {*PLANTED.values()}
    assert any(secret.startswith("eyJ") for secret in given)
    assert len(given) > 10  # tokens, signatures, the account's and the endpoint's keys
    for secret in (PLANTED["HF_TOKEN"], *sorted(given)[:3]):
        shown = nbformat.v4.new_output("stream", text=f"it says {secret}\n")
        with pytest.raises(AssertionError, match="secrets in"):
            watch.search("a cell", nbformat.writes(nbformat.v4.new_notebook(cells=[_cell(shown)])))


def _cell(output: Any) -> Any:
    return nbformat.v4.new_code_cell("1", outputs=[output])


def test_the_search_finds_what_is_planted(sweep: Sweep) -> None:
    with sweep.world(sweep.done("submit maas")) as world:
        watch = Watch(world.emu)
        client = world.client()
        client.refresh("maas")
        token = client.connection.credential.get_token("https://ml.azure.com/.default").token
        assert token in watch.secrets
        assert any("sig" not in secret and len(secret) > 30 for secret in watch.secrets)
        log = client.run("maas").folder / "logs" / "finetune.txt"
        log.parent.mkdir(exist_ok=True)
        for secret in (token, PLANTED["MY_API_KEY"], world.emu.identity_header):
            log.write_text(f"it says {secret} in a line\n")
            with pytest.raises(AssertionError, match="secrets in"):
                watch.search_files(world.home)
        log.unlink()
        watch.search_files(world.home)
    assert os.environ["MY_API_KEY"] == PLANTED["MY_API_KEY"]
