#!/bin/sh
# Installs the pinned torch into the environment of the Python given as $1.
#
# Without a GPU it takes the CPU build (local version "+cpu") and nothing else: the plain name resolves to a CUDA build of
# several gigabytes on Linux. TORCH overrides the choice, e.g. TORCH='torch==2.13.0'.
set -eu
python=$1
version=$(sed -n 's/^torch==\([^+ ]*\).*/\1/p' constraints.txt)
install="$python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt"

if "$python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$version')" 2>/dev/null; then
    exit 0
fi
if [ -n "${TORCH:-}" ]; then
    echo "Installing $TORCH ..."
    exec $install "$TORCH"
fi
case "$(uname -s)-$(uname -m)" in
Linux-x86_64)
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo "Installing torch $version (CUDA build, because this machine has a GPU) ..."
        exec $install "torch==$version"
    fi
    echo "Installing torch $version (CPU build) ..."
    $install "torch==$version+cpu" && exit 0
    cat >&2 <<MESSAGE
The CPU build of torch $version is not on the package index that pip uses here.
Either name PyTorch's CPU index (see "Get started" on PyTorch's site) and try again:
    PIP_EXTRA_INDEX_URL=<PyTorch's CPU index> make quickstart
or accept the CUDA build of several gigabytes:
    TORCH='torch==$version' make quickstart
MESSAGE
    exit 1
    ;;
*)
    # On other systems the plain name is the CPU build.
    echo "Installing torch $version ..."
    exec $install "torch==$version"
    ;;
esac
