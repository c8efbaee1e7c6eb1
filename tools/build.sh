#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, configures and builds.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/build.sh [--preset NAME] [--target NAME]...

Installs what is missing, configures and builds into build/<preset>; programs land in build/<preset>/bin.

  --preset NAME   cpu (default), portable, asan, tsan, ...: cmake --list-presets
  --target NAME   builds only this; may be repeated. Default: everything

MOXIE_WERROR=1 makes warnings errors, 0 switches that off again. ccache is used where it is installed.
END
}

preset=cpu
targets=()
while (($#)); do
  case $1 in
    --preset | --target)
      (($# > 1)) || { echo "build: $1 needs a value" >&2; exit 1; }
      if [[ $1 == --preset ]]; then preset=$2; else targets+=("$2"); fi
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; echo "build: unknown option $1" >&2; exit 1 ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools/setup.sh

# As many compilers as processors, but each may take a gigabyte.
jobs=$(nproc 2>/dev/null || echo 2)
memory=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo 2>/dev/null || true)
if [[ -n $memory ]] && ((memory < jobs)); then jobs=$((memory > 0 ? memory : 1)); fi

options=()
case ${MOXIE_WERROR:-} in
  1) options+=(-DMOXIE_WERROR=ON) ;;
  0) options+=(-DMOXIE_WERROR=OFF) ;;
esac
# So that it caches what includes precompiled headers, too.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}
# Only at first: a launcher that comes later would rebuild everything.
if command -v ccache >/dev/null && [[ ! -e build/$preset/CMakeCache.txt ]]; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
fi

cmake --preset "$preset" ${options[@]+"${options[@]}"}
cmake --build --preset "$preset" --parallel "$jobs" ${targets[@]+--target "${targets[@]}"}
