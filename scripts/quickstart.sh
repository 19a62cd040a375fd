#!/bin/sh
# The chat example from end to end, as a new user would type it. Run by `make quickstart`, which installs azft first.
# Running it again is quick: finished steps are reused, and the run that is already there is shown.
set -eu
bin=$(cd "$VENV/bin" && pwd)
PATH=$bin:$PATH

say() { printf '\n$ %s\n' "$*"; "$@"; }

[ -f quickstart/recipe.yaml ] || say azft init quickstart
cd quickstart
say azft check recipe.yaml
say azft preview recipe.yaml --rows 1
say azft submit recipe.yaml --mode local
say azft chat --latest --prompt "Hi! When are you open on Saturday?"

cat <<'MESSAGE'

Everything of this run lies in quickstart/.azft/runs (see it with: cd quickstart && azft runs).
The model above is a stand-in: Phi-4-mini's architecture made tiny, with random weights. It proves the pipeline, not the
quality. To go on:
  source .venv/bin/activate                     # so that `azft` is a command of your shell
  azft models get smollm2-135m-instruct         # a real small model; then set `model:` in quickstart/recipe.yaml
  azft submit quickstart/recipe.yaml --set model=smollm2-135m-instruct --set training.epochs=1   # some minutes
  azft init my-project                          # your own recipe
MESSAGE
