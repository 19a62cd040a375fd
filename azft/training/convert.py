"""Turn a GGUF file (weights quantised for inference) into a plain Hugging Face folder with bf16 safetensors.

The weights are real but dequantised: close to the originals, never equal to them. Run as a process of its own, because
the memory it takes (about 1.5 GB for 135M parameters) should go back when it is done.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def convert(gguf: Path, output: Path) -> None:
    """Write the model and tokenizer of `gguf` into the folder `output`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model read from GGUF calls itself quantised and refuses to be saved; a fresh one of the same config doesn't.
    config = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    model = type(loaded)(type(loaded.config)(**config))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def main(arguments: list[str] | None = None) -> None:
    """`python -m azft.training.convert --gguf FILE --output DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    convert(given.gguf.resolve(), given.output)


if __name__ == "__main__":
    main()
