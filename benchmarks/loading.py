"""Host memory of a node's ranks while they load a model, train a step and write the result; beside no peer.

A model of random weights, stored in bf16 as most are, is fine-tuned for one step by forked ranks over gloo, as the
finetune step does it. What counts is anonymous memory (`Pss_Anon` of /proc/<pid>/smaps_rollup, summed over the ranks),
less what they had before loading: the kernel can't take it back, and ends a node that has no more of it. Pages of the
weights' files are shown apart; they are there once for all ranks, and are dropped when memory is short. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MIB = 1 << 20
CASES = tuple(itertools.product(("fsdp", "zero-3"), ("full", "lora"), ("fp32", "bf16"), (2, 4)))
_EVERY = 0.03
"""Seconds between two looks."""


def write_model(folder: Path, layers: int) -> int:
    """A llama of random weights, stored in bf16; how many weights it has. 12 layers are 134 M."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=layers,
        num_attention_heads=12, num_key_value_heads=12, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def write_data(folder: Path) -> None:
    """A dataset of a few random tokens."""
    from azft.data.dataset_writer import write_dataset

    random = np.random.default_rng(0)
    with write_dataset(
        folder, splits=["train"], vocab_size=32_000, max_length=64, packing=False, tokenizer="none"
    ) as writer:
        for _ in range(8):
            writer.splits["train"].add(random.integers(3, 32_000, 32), np.ones(32, bool))


def parameters(strategy: str, technique: str, precision: str) -> Any:
    """What the finetune step is told."""
    from azft.parameters import FinetuneParameters
    from azft.recipe import Recipe

    zero = {"strategy": "deepspeed", "zero_stage": 3}
    return FinetuneParameters.of(
        Recipe.model_validate(
            {
                "name": "loading",
                "task": "text-generation",
                "model": "random",
                "data": {"train": "train.jsonl"},
                "technique": {"name": technique},
                "distribution": zero if strategy == "zero-3" else {"strategy": strategy},
                "training": {"precision": precision, "global_batch_size": 4, "max_steps": 1},
            }
        )
    )


def measure(
    what: Any, *, ranks: int, model: Path, dataset: Path, folder: Path, memory: float | None
) -> dict[str, float]:
    """Peaks in MiB over what the ranks had before, of loading and of the end, and seconds of loading."""
    marks = folder / "marks"
    marks.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            _work(what, marks / str(rank), model, dataset, folder, memory)
        children.append(child)
    looks: list[tuple[float, int, int]] = []
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(children, looks, ended))
    watcher.start()
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    ended.set()
    watcher.join()
    if any(codes):
        raise SystemExit(f"a rank ended with {codes}")
    times = [json.loads((marks / str(rank)).read_text()) for rank in range(ranks)]
    start = min(one["load"] for one in times)
    loaded = max(one["loaded"] for one in times)
    over = max(one["over"] for one in times)
    before = max((look for look in looks if look[0] <= start), key=lambda look: look[0])
    loading = [look for look in looks if start <= look[0] <= loaded]
    ending = [look for look in looks if look[0] >= over]
    return {
        "loading": (max(look[1] for look in loading) - before[1]) / MIB,
        "loading, files": (max(look[2] for look in loading) - before[2]) / MIB,
        "training": (max(look[1] for look in looks if loaded <= look[0] <= over) - before[1]) / MIB,
        "end": (max(look[1] for look in ending) - before[1]) / MIB,
        "seconds": loaded - start,
    }


def _work(what: Any, mark: Path, model: Path, dataset: Path, folder: Path, memory: float | None) -> None:
    """One rank, to its end; writes down when loading began, when training did, and when it was over."""
    from azft import host_memory
    from azft.training import finetune as step
    from azft.training.loop import Loop

    times: dict[str, float] = {}

    def marked(name: str, function: Callable[..., Any], after: str | None = None) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if name not in times:
                time.sleep(3 * _EVERY)  # a look at what was there before
            times.setdefault(name, time.monotonic())
            try:
                return function(*given, **named)
            finally:
                if after:
                    times[after] = time.monotonic()

        return call

    status = 1
    try:
        step._set_up = marked("load", step._set_up)
        Loop.__init__ = marked("loaded", Loop.__init__)  # type: ignore[method-assign]
        Loop.run = marked("run", Loop.run, "over")  # type: ignore[method-assign]
        if memory is not None:
            host_memory.available = lambda: int(memory * MIB)
        outputs = {name: folder / name for name in ("trained", "checkpoints", "metrics")}
        step.finetune(what, model=model, dataset=dataset, **outputs)
        mark.write_text(json.dumps(times))
        status = 0
    except BaseException:
        traceback.print_exc()
        os.killpg(0, signal.SIGTERM)  # the others would wait for this one
    finally:
        os._exit(status)


def _watch(children: list[int], looks: list[tuple[float, int, int]], ended: threading.Event) -> None:
    while not ended.wait(_EVERY):
        anonymous, files = 0, 0
        for child in children:
            try:
                lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            kinds = {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
            anonymous += kinds["Pss_Anon"] + kinds.get("Pss_Shmem", 0)
            files += kinds["Pss_File"]
        looks.append((time.monotonic(), anonymous, files))


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12, help="of the model; 12 are 134 M weights")
    parser.add_argument("--only", default="", help="strategy, technique and precision: fsdp/full/fp32")
    parser.add_argument("--ranks", type=int, help="2 and 4 by default")
    parser.add_argument("--memory", type=float, help="MiB that the ranks are to take for free")
    arguments = parser.parse_args()
    import deepspeed  # noqa: F401 - here once, and not in every rank
    import peft  # noqa: F401
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        weights = write_model(root / "model", arguments.layers)
        write_data(root / "dataset")
        print(f"{weights / 1e6:.0f} M weights: {weights * 4 / MIB:.0f} MiB in fp32, {weights * 2 / MIB:.0f} in bf16")
        print(f"{'':<28}{'loading':>10}{'of it files':>13}{'training':>10}{'end':>8}{'loading takes':>15}")
        for number, (strategy, technique, precision, ranks) in enumerate(CASES):
            case = f"{strategy}/{technique}/{precision}"
            if not case.startswith(arguments.only) or arguments.ranks not in (None, ranks):
                continue
            folder = root / str(number)
            folder.mkdir()
            row = measure(
                parameters(strategy, technique, precision), ranks=ranks, model=root / "model",
                dataset=root / "dataset", folder=folder, memory=arguments.memory,
            )  # fmt: skip
            print(
                f"{case + f', {ranks} ranks':<28}{row['loading']:>7.0f} MB{row['loading, files']:>10.0f} MB"
                f"{row['training']:>7.0f} MB{row['end']:>5.0f} MB{row['seconds']:>13.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
