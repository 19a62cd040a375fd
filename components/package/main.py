"""Trained weights become a folder that servers load."""

from __future__ import annotations

import argparse
from pathlib import Path

from azft.parameters import PackageParameters
from azft.training.package import package


def main() -> None:
    """Read the arguments that component.yaml gives, and package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--packaged", type=Path, required=True)
    args = parser.parse_args()

    package(
        PackageParameters.read(args.parameters),
        model=args.model,
        trained=args.trained,
        evaluation=args.evaluation,
        output=args.packaged,
    )


if __name__ == "__main__":
    main()
