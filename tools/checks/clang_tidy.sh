#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy's checks that find errors (.clang-tidy) in the library's sources and headers.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/checks/clang_tidy.sh [FILE]...

Needs build/clang: tools/build.sh --preset clang. Without a FILE: every source of core, autograd, nn and moe.
END
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  usage
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v clang-tidy-19 >/dev/null || { echo "clang_tidy: needs clang-tidy-19; tools/setup.sh --dev installs it" >&2; exit 1; }
[[ -e build/clang/compile_commands.json ]] || { usage >&2; echo "clang_tidy: build/clang is not configured" >&2; exit 1; }

files=("$@")
if ((${#files[@]} == 0)); then mapfile -t files < <(find core autograd nn moe -name '*.cpp' | sort); fi
((${#files[@]})) || { echo "clang_tidy: found no sources" >&2; exit 1; }

# It counts the warnings it keeps to itself on stderr.
printf '%s\0' "${files[@]}" | xargs -0 -n 4 -P "$(nproc)" clang-tidy-19 -p build/clang --quiet 2>/dev/null
echo "clang-tidy: ${#files[@]} sources are fine"
