#!/usr/bin/env bash
# Starts vLLM on the model below the place where Azure mounted it.
#   AZFT_MODEL_ROOT  the deployment's model_mount_path; else Azure's own AZUREML_MODEL_DIR
#   AZFT_MODEL_NAME  what clients call the model
#   AZFT_GPUS        GPUs that share it
#   VLLM_ARGS        more of vLLM's own options
set -euo pipefail

root="${AZFT_MODEL_ROOT:-}"
if [ -z "$root" ] || [ ! -d "$root" ]; then
  root="${AZUREML_MODEL_DIR:?neither AZFT_MODEL_ROOT nor AZUREML_MODEL_DIR is a folder}"
fi

# Azure puts a registered folder one or two levels below the mount; the model itself is the config.json nearest to it.
config="$(find -L "$root" -name config.json -not -path '*/adapter/*' -printf '%d %p\n' | sort -n | head -n 1 | cut -d ' ' -f 2-)"
if [ -z "$config" ]; then
  echo "There is no config.json below $root: this is not a whole (merged) model." >&2
  exit 1
fi

# shellcheck disable=SC2086 # VLLM_ARGS is a list of options
exec vllm serve "$(dirname "$config")" --served-model-name "${AZFT_MODEL_NAME:-azft}" \
  --host 0.0.0.0 --port 8000 --tensor-parallel-size "${AZFT_GPUS:-1}" ${VLLM_ARGS:-}
