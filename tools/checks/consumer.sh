#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs moxie from a build, moves the installed tree, and builds tests/consumer against it as a user would: by
# find_package, by pkg-config and by add_subdirectory; and a walkthrough by find_package in a folder of its own.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/checks/consumer.sh [--build DIR]

  --build DIR   a built build folder (default build/cpu)
END
}

build=build/cpu
while (($#)); do
  case $1 in
    --build)
      (($# > 1)) || { echo "consumer: --build needs a value" >&2; exit 1; }
      build=$(realpath "$2")
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; echo "consumer: unknown option $1" >&2; exit 1 ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/moxie-consumer.XXXXXX")
trap 'rm -rf "$work"' EXIT
fail() {
  echo "consumer: $1" >&2
  exit 1
}
# Runs a command whose output matters only where it fails.
quietly() {
  "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "failed: $*"; }
}
for program in cmake ninja g++ pkg-config; do
  command -v "$program" >/dev/null || fail "needs $program; tools/setup.sh --dev installs it"
done

quietly cmake --install "$build" --prefix "$work/first"
mv "$work/first" "$work/moved"
installed=$work/moved

while read -r header; do
  [[ -f $installed/include/moxie/$header ]] || fail "include/moxie/$header is not installed"
done < <(find moxie.h core autograd nn moe -name '*.h')
config=$(find "$installed" -name moxieConfig.cmake) pc=$(find "$installed" -name moxie.pc)
[[ -n $config && -n $pc ]] || fail "moxieConfig.cmake or moxie.pc is not installed"
if grep -rF -e "$root" -e "$work" "$(dirname "$config")" "$pc"; then fail "the installed tree names a folder of this machine"; fi

configure() { cmake -S "$1" -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=Release "${@:3}"; }

# find_package
quietly configure tests/consumer "$work/cmake" -DCMAKE_PREFIX_PATH="$installed"
quietly cmake --build "$work/cmake"
"$work/cmake/consumer" >"$work/by_cmake" || fail "the program built by find_package failed: $(cat "$work/by_cmake")"
cat "$work/by_cmake"
version=$(sed -n 's/^moxie \([0-9.]*\):.*/\1/p' "$work/by_cmake")
for wanted in 99.0 "${version%%.*}.99"; do
  sed "s/moxie 0.1 /moxie $wanted /" tests/consumer/CMakeLists.txt >"$work/CMakeLists.txt"
  if configure "$work" "$work/refused" -DCMAKE_PREFIX_PATH="$installed" >"$work/log" 2>&1; then
    fail "find_package(moxie $wanted) took version $version"
  fi
  grep -q "version: $version" "$work/log" || fail "find_package(moxie $wanted) failed for another reason: $(cat "$work/log")"
done

# pkg-config
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
[[ $(pkg-config --modversion moxie) == "$version" ]] || fail "pkg-config says version $(pkg-config --modversion moxie), the library $version"
read -ra flags <<<"$(pkg-config --cflags moxie)"
read -ra libraries <<<"$(pkg-config --libs moxie)"
quietly g++ -std=c++20 -O1 "${flags[@]}" tests/consumer/main.cpp -o "$work/by_hand" "${libraries[@]}"
"$work/by_hand" >"$work/by_pkg_config" || fail "the program built by pkg-config failed: $(cat "$work/by_pkg_config")"

# A walkthrough as a user's own file, in a folder of its own, as its page says.
page=docs/walkthroughs/gradcheck_your_op.md
mkdir -p "$work/user/examples"
cp examples/gradcheck_your_op.cpp "$work/user/"
cp -r examples/walkthrough "$work/user/examples/"
sed -n '/^\x60\{3\}cmake$/,/^\x60\{3\}$/{//!p}' "$page" >"$work/user/CMakeLists.txt" # \x60: what fences code
[[ -s $work/user/CMakeLists.txt ]] || fail "$page shows no CMake"
quietly configure "$work/user" "$work/user/build" -DCMAKE_PREFIX_PATH="$installed"
quietly cmake --build "$work/user/build"
"$work/user/build/gradcheck_your_op" --steps 10 --out "$work/user/out" >"$work/by_user" || fail "gradcheck_your_op failed: $(cat "$work/by_user")"
grep -q '^signed_root: right$' "$work/by_user" || fail "gradcheck_your_op says: $(cat "$work/by_user")"
[[ -s $work/user/out/gradcheck_your_op.png ]] || fail "gradcheck_your_op left no picture"

# add_subdirectory: only configured, for a build would be that of build/cpu again
cat >"$work/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
add_subdirectory($root moxie)
add_executable(consumer $root/tests/consumer/main.cpp)
target_link_libraries(consumer PRIVATE moxie::moxie)
END
quietly configure "$work" "$work/subdirectory"
if [[ -n $(ninja -C "$work/subdirectory" -t targets all | grep -E '_test|train_lm|bench_' | head -n 3) ]]; then
  fail "a project that adds moxie's folder gets its tests and programs too"
fi

echo "consumer: moxie $version works from an installed tree by find_package and pkg-config, and by add_subdirectory"
