"""A model and a dataset of token ids become trained weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from azft.parameters import FinetuneParameters
from azft.training.finetune import finetune


def main() -> None:
    """Read the arguments that component.yaml gives, and fine-tune."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()

    parameters = FinetuneParameters.read(args.parameters)
    finetune(
        parameters.override(learning_rate=args.learning_rate, epochs=args.epochs, seed=args.seed),
        model=args.model,
        dataset=args.dataset,
        trained=args.trained,
        checkpoints=args.checkpoints,
        metrics=args.metrics,
    )


if __name__ == "__main__":
    main()
