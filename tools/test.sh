#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds everything and runs the tests.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/test.sh [--preset NAME] [TEST]...

Installs what is missing, configures, builds and runs the tests. Works from any folder.

  --preset NAME   cpu (default), portable, asan, tsan, ...: cmake --list-presets
  TEST            runs only the tests whose names match this regular expression, such as 'moe'

MOXIE_WERROR=1 makes warnings errors.
END
}

preset=cpu
filters=()
while (($#)); do
  case $1 in
    --preset)
      (($# > 1)) || { echo "test: --preset needs a value" >&2; exit 1; }
      preset=$2
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; echo "test: unknown option $1" >&2; exit 1 ;;
    *) filters+=("$1"); shift ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
tools/build.sh --preset "$preset"
built=$SECONDS

options=(--no-tests=error)
if ((${#filters[@]})); then options+=(-R "$(IFS='|'; echo "${filters[*]}")"); fi
status=0
ctest --preset "$preset" "${options[@]}" || status=$?

verdict=passed
((status == 0)) || verdict=FAILED
echo "tests $verdict (preset $preset): build $((built - started)) s, tests $((SECONDS - built)) s"
exit "$status"
