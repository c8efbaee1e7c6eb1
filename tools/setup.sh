#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what moxie is built with. Says nothing and needs no network where nothing is missing.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/setup.sh [--demo] [--dev] [--list]

Installs the packages that are missing, on Debian or Ubuntu with apt-get, as root or with sudo.

  --demo   also what tools/demo.sh needs: a text to learn from
  --dev    also what contributors need: the second compiler, the formatter and the checks
  --list   only prints all packages, one purpose a line; installs nothing

MOXIE_NO_SETUP=1 skips everything here: for systems without apt-get where all of it is in place.
END
}

compiler=(g++ cmake ninja-build)
libraries=(libdnnl-dev libfmt-dev libstb-dev libcli11-dev nlohmann-json3-dev)
tests=(doctest-dev)
demo=(bible-kjv)
dev=(clang-19 clang-tidy-19 clang-format python3 python3-venv shellcheck git doxygen pkg-config)
cmake_needed=3.25

list() {
  echo "  build:     ${compiler[*]}"
  echo "  libraries: ${libraries[*]}   (oneDNN, fmt, stb, CLI11, nlohmann-json)"
  echo "  tests:     ${tests[*]}"
  echo "  demo:      ${demo[*]}   (the King James text)"
  echo "  checks:    ${dev[*]}   (contributors only; ccache too is used where it is installed)"
}

fail() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

wanted=("${compiler[@]}" "${libraries[@]}" "${tests[@]}")
for argument in "$@"; do
  case $argument in
    --demo) wanted+=("${demo[@]}") ;;
    --dev) wanted+=("${dev[@]}") ;;
    --list) list; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $argument" ;;
  esac
done
[[ ${MOXIE_NO_SETUP:-0} == 1 ]] && exit 0

# The program that a package is wanted for: one from elsewhere will do. Libraries have none.
program_of() {
  case $1 in
    g++ | cmake | clang-19 | clang-tidy-19 | clang-format | python3 | shellcheck | git | doxygen | pkg-config) echo "$1" ;;
    ninja-build) echo ninja ;;
    bible-kjv) echo bible ;;
  esac
}

is_installed() {
  local program
  program=$(program_of "$1")
  if [[ $1 == python3-venv ]]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null
  elif [[ -n $program ]]; then
    command -v "$program" >/dev/null
  else
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
  fi
}

check_cmake() {
  local found
  found=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
  if [[ $(printf '%s\n' "$cmake_needed" "$found" | sort -V | head -n 1) != "$cmake_needed" ]]; then
    fail "moxie needs CMake $cmake_needed or newer, and this system's is $found." \
      "Newer ones: https://apt.kitware.com (Ubuntu), 'pip install cmake' or https://cmake.org/download." \
      "Put it in front on PATH and run this again."
  fi
}

missing=()
for package in "${wanted[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  check_cmake
  exit 0
fi

by_hand() {
  echo "setup: $1" >&2
  echo "Please install these (the names are Debian's):" >&2
  list >&2
  echo "Found missing here: ${missing[*]}" >&2
  echo "Then run this again; MOXIE_NO_SETUP=1 skips this check." >&2
  exit 1
}

command -v apt-get >/dev/null || by_hand "this system has no apt-get."
as_root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || by_hand "not root, and there is no sudo: apt-get install ${missing[*]}"
  # Without a terminal nobody can type a password.
  [[ -t 0 ]] || sudo -n true 2>/dev/null ||
    by_hand "not root, and sudo asks for a password but there is no terminal: apt-get install ${missing[*]}"
  as_root=(sudo)
fi

log=$(mktemp "${TMPDIR:-/tmp}/moxie-setup.XXXXXX")
trap 'rm -f "$log"' EXIT
apt() {
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1
}

echo "setup: installing ${missing[*]}"
# A broken third-party source need not matter; the installation tells.
if ! apt update; then
  echo "setup: apt-get update failed; going on with the lists at hand:" >&2
  tail -n 3 "$log" | sed 's/^/  /' >&2
fi
# --no-remove: what is on this machine stays.
if ! apt install -y --no-install-recommends --no-remove "${missing[@]}"; then
  echo "setup: apt-get install failed:" >&2
  tail -n 15 "$log" | sed 's/^/  /' >&2
  fail "is the network there, and does this release have all of: ${missing[*]}?"
fi
check_cmake
