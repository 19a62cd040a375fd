"""The base and the tuned model meet the same held-out rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from azft.parameters import EvaluateParameters
from azft.training.evaluate import evaluate


def main() -> None:
    """Read the arguments that component.yaml gives, and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    args = parser.parse_args()

    evaluate(
        EvaluateParameters.read(args.parameters),
        model=args.model,
        dataset=args.dataset,
        trained=args.trained,
        output=args.evaluation,
    )


if __name__ == "__main__":
    main()
