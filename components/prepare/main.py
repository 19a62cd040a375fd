"""Rows of chats become a dataset of token ids: check, render, tokenize, mask, pack."""

from __future__ import annotations

import argparse
from pathlib import Path

from azft.data.prepare import prepare
from azft.parameters import PrepareParameters


def main() -> None:
    """Read the arguments that component.yaml gives, and prepare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    args = parser.parse_args()

    prepare(
        PrepareParameters.read(args.parameters),
        model=args.model,
        train=args.train,
        validation=args.validation,
        test=args.test,
        output=args.dataset,
    )


if __name__ == "__main__":
    main()
