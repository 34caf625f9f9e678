# Sourced by serve, test and check: one way to a working .venv, whatever was there before.
#
#   prepare_environment NAME LOCK...   install the locked versions and this project, unless NAME has them already
#
# Sets: root (the repository), venv, python (its interpreter). Speaks on standard error only.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# The first Python that is new enough: $PYTHON if it is set, else python3, else a newer one beside it.
find_python() {
  local candidate found='' candidates=(python3 python3.14 python3.13 python3.12 python3.11)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    found="$("$candidate" --version 2>&1) ($candidate)"
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "nextword needs Python 3.11 or newer; found ${found:-none}." \
    "Debian 12, Ubuntu 24.04 and newer: apt install python3 python3-venv." \
    "If it is installed elsewhere, name it: PYTHON=/path/to/python3.11 $0"
}

create_venv() {
  local base version
  base=$(find_python) || exit 1
  version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  # Debian's venv module is there without ensurepip, and would fail halfway with a half-made folder left behind.
  "$base" -c 'import ensurepip, venv' 2>/dev/null ||
    die "Python $version lacks its venv module. On Debian and Ubuntu: apt install python$version-venv"
  say "Making $venv with Python $version"
  "$base" -m venv --clear "$venv"
}

# The library of models/native is built where a C compiler is. Without one a wheel brings it: the same fast path on a
# machine that has Python and nothing else. Where that can't be had either, models are computed in torch.
provide_compiler() {
  local name
  if [ -n "${CC:-}" ]; then return; fi
  for name in cc gcc clang; do
    if command -v "$name" >/dev/null 2>&1; then return; fi
  done
  say "No C compiler found: installing one into $venv"
  "$@" install --requirement "$root/requirements-build.txt" >&2 ||
    say "warning: no C compiler; models will be computed in float32, which is slower"
}

install_locked() {
  local name=$1 stamp=$venv/.installed-$1 wanted installed='' lock arguments=()
  shift
  # The folder counts too: a moved environment has its old place written all through it.
  wanted=$(cd "$root" && printf '%s\n' "$root" && cksum pyproject.toml setup.py requirements-build.txt "$@" &&
    cat models/native/*.[ch] | cksum)
  if [ -f "$stamp" ]; then installed=$(cat "$stamp"); fi
  # Without the library, as where there was no compiler, it is worth another try.
  if [ -x "$python" ] && [ "$installed" = "$wanted" ] && [ -f "$root/models/native/libnextword.so" ]; then return; fi

  if [ "${installed%%$'\n'*}" != "${installed:+$root}" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
    create_venv
  fi
  for lock in "$@"; do arguments+=(--requirement "$root/$lock"); done
  say "Installing the locked versions ($name). The first time takes minutes: torch is large."
  local pip=("$python" -m pip --disable-pip-version-check --quiet --no-input)
  "${pip[@]}" install "${arguments[@]}" >&2
  provide_compiler "${pip[@]}"
  # setuptools is among what was just installed, so the build fetches nothing of its own.
  "${pip[@]}" install --no-deps --no-build-isolation --editable "$root" >&2
  printf '%s\n' "$wanted" >"$stamp"
}

prepare_environment() {
  # Two scripts started at once on a fresh clone take turns: the folder itself is the lock, held until the brace.
  (
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    install_locked "$@"
  ) 9<"$root"
}

# EleutherAI's lm-evaluation-harness, which tests run against the service. It and what it needs stand in a folder of their
# own, behind nothing of the project: 400 MB, most of it pyarrow and pandas, and about 15 seconds of a processor.
provide_lm_eval() {
  local folder=$venv/lm-eval lock=$root/requirements-lm-eval.txt
  (
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    if cmp -s "$lock" "$folder/.installed"; then exit; fi
    say "Installing lm-evaluation-harness, for the tests of the service's clients."
    rm -rf "$folder"
    "$python" -m pip --disable-pip-version-check --quiet --no-input install --no-deps --target "$folder" \
      --requirement "$lock" >&2
    cp "$lock" "$folder/.installed"
  ) 9<"$root"
}
