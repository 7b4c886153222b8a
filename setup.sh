#!/bin/sh
# Sets rfgs up in .venv beside this file, and does nothing that was done before: safe to run again at any time.
#
#   ./setup.sh          what is needed to make assets
#   ./setup.sh --dev    also what is needed to run the tests
#   ./setup.sh --cuda   take the CUDA build of torch although no GPU is seen here (for a machine image, say)
#
# On a machine with an NVIDIA GPU, torch comes as usual. On one without, a CPU build is looked for, since the usual
# build brings gigabytes of CUDA libraries, and OpenVINO comes along, which is faster there. PYTHON names the interpreter
# to use (python3 by default).
set -eu
cd "$(dirname "$0")"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

extras="" want_cuda=no
for argument in "$@"; do
    case "$argument" in
        --dev) extras="[dev]" ;;
        --cuda) want_cuda=yes ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown option $argument; there are --dev and --cuda" ;;
    esac
done

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || fail "$python is not there; install Python 3.10 or newer, or name one with PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1) is too old; rfgs needs 3.10 or newer, name one with PYTHON=..."

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv ||
        fail "could not create .venv; on Debian and Ubuntu, install the package python3-venv"
fi
# An absolute path, and no "activate": nothing here depends on the shell.
venv=$PWD/.venv/bin
# -qq below: what went well needs no words; what went wrong is still shown.
pip() { "$venv/python" -m pip --disable-pip-version-check "$@"; }

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# The libraries that pip would install along with "$1" and that only a GPU needs, one a line.
cuda_libraries() {
    pip install -qq --dry-run --ignore-installed --report "$venv/../report.json" "$1" >/dev/null || return 1
    "$venv/python" - "$venv/../report.json" <<'EOF'
import json, re, sys

for item in json.load(open(sys.argv[1]))["install"]:
    if re.match(r"(nvidia|cuda)[-_]", item["metadata"]["name"], re.IGNORECASE):
        print(item["metadata"]["name"])
EOF
}

# The version of torch in the wheel folders that pip is configured with (find-links); nothing if there is none.
local_torch() {
    pip install -qq --dry-run --ignore-installed --no-deps --no-index --report "$venv/../report.json" torch \
        >/dev/null 2>&1 || return 0
    "$venv/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["install"][0]["metadata"]["version"])' \
        "$venv/../report.json"
}

answers() { "$venv/python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$1" 2>/dev/null; }

cpu_index=https://download.pytorch.org/whl/cpu
install_torch() {
    if [ "$want_cuda" = yes ] || has_gpu || [ "$(uname -s)" = Darwin ]; then
        say "installing torch, a large download"
        pip install -qq torch
    elif answers "$cpu_index/torch/"; then
        say "no NVIDIA GPU here: installing the CPU build of torch"
        # Of two equal versions, pip takes the one marked +cpu.
        pip install -qq --extra-index-url "$cpu_index" torch
    else
        # Not every machine reaches that index. A wheel on disk is next, then whatever the usual index has.
        version=$(local_torch)
        wanted=torch${version:+==$version}
        unwanted=$(cuda_libraries "$wanted") || fail "pip finds no $wanted; check the connection to the package index"
        [ -z "$unwanted" ] || fail "there is no GPU here and $cpu_index cannot be reached, so pip would take a build \
of torch with gigabytes of CUDA libraries. Either install a CPU build into .venv yourself and run this again, or take \
that one with ./setup.sh --cuda"
        say "no NVIDIA GPU here: installing $wanted, which brings no CUDA libraries"
        pip install -qq "$wanted"
    fi
}

# What was installed last time, so that a second call costs nothing. A checkout that moved has to be installed again.
stamp=.venv/rfgs-setup
source="$PWD $(cat pyproject.toml setup.py | cksum)"
case "$(cat "$stamp" 2>/dev/null)" in
    "$source $extras" | "$source [dev]") installed=yes ;;
    *) installed=no ;;
esac
if [ $installed = no ]; then
    # --dry-run and --report came with pip 22.2; Python 3.10 may bring an older one.
    pip install -qq 'pip>=22.2'
    "$venv/python" -c 'import torch' 2>/dev/null || install_torch
    say "installing rfgs and what it needs, which takes a minute or two"
    pip install -qq --editable ".$extras"
    if [ "$want_cuda" = no ] && ! has_gpu; then
        pip install -qq --editable ".[openvino]" ||
            say "OpenVINO cannot be installed here; torch does its work, only slower"
        # Tells Google Analytics of every import; OpenVINO does as well without.
        pip uninstall -qq -y openvino-telemetry
    fi
    if [ "$want_cuda" = yes ] || has_gpu; then
        # What gsplat's kernels are compiled with, where there is no CUDA toolkit and the package index has one.
        toolkit=$("$venv/python" -c 'from rfgs.models import cuda; print(cuda.toolkit() or "")')
        if [ -n "$toolkit" ]; then
            say "no CUDA toolkit here: installing $toolkit"
            pip install -qq "$toolkit" || say "it cannot be installed; rfgs doctor says what else would do"
        fi
    fi
    rm -f .venv/report.json
    printf '%s\n' "$source $extras" >"$stamp"
fi

code=0
"$venv/rfgs" warmup || code=$?
if [ $code = 2 ]; then
    # What is missing was told in a line: gsplat's kernels, say, without which all is done on the CPU.
    say "rfgs doctor says what runs here all the same"
elif [ $code != 0 ]; then
    exit $code
fi
say "ready: .venv/bin/rfgs --help"
