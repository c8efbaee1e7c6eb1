#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks the CUDA backend on a machine with a GPU, from a tree that was prepared on one without.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/gpu_check.sh --prepare [--architectures LIST]
       tools/gpu_check.sh [SECTION]...

--prepare builds tests and benchmarks with the CUDA backend and gathers them, with the libraries they need, in build/gpu:
copy the repository with this folder to the GPU machine. It needs no network there, and of its packages none.

Sections, all by default; each prints a table, and a short one comes last:
  info       the GPU, its driver, what was found
  suite      every test on the device, MOXIE_REQUIRE_CUDA=1
  sanitize   compute-sanitizer on small shapes: memcheck, racecheck, initcheck, synccheck
  programs   train_lm, with CUDA graphs too, and all examples, on the device
  bench      the benchmarks for GPUs

Logs go to build/gpu/logs and, where $OUT names a folder, all in one file there. MOXIE_CHECK_SECONDS (200) limits each
program, MOXIE_SANITIZE_TOOLS names the sanitizer's tools to use (all four), MOXIE_SANITIZE_GROUPS the groups of tests by a
regular expression (all).
END
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tree=build/gpu
tests=(core autograd ops nn moe train cuda)
programs=(train_lm sample_lm moe_layer autograd_tour noise_picture spiral router_geometry image_experts digits erc_by_hand
  gradcheck_your_op)
limit=${MOXIE_CHECK_SECONDS:-200}
: "${MOXIE_SANITIZE_TOOLS:=racecheck initcheck synccheck memcheck}" "${MOXIE_SANITIZE_GROUPS:=.}"

prepare() {
  local architectures=$1 library program targets=("${tests[@]/%/_test}" "${programs[@]}")
  for program in bench/gpu_*.cpp; do targets+=("$(basename "$program" .cpp)"); done
  cmake --preset cuda -B build/gpu-build -DBUILD_SHARED_LIBS=ON -DMOXIE_ONEDNN=OFF \
    -DMOXIE_CUDA_ARCHITECTURES="$architectures" -DMOXIE_PCH=OFF
  cmake --build build/gpu-build --parallel "$(nproc)" --target "${targets[@]}"
  rm -rf "$tree"
  mkdir -p "$tree/bin" "$tree/lib"
  for program in "${targets[@]}"; do strip -o "$tree/bin/$program" "build/gpu-build/bin/$program"; done
  library=$(find build/gpu-build -maxdepth 1 -name 'libmoxie.so' | head -1)
  strip --strip-unneeded -o "$tree/lib/libmoxie.so" "$library"
  # What the programs link beside the C and C++ libraries and the toolkit's.
  ldd "$tree"/bin/* "$library" | awk '$3 ~ /^\// {print $3}' | sort -u |
    grep -E '/lib(fmt|gomp)\.so' | xargs -I{} cp -L {} "$tree/lib/"
  du -sh "$tree"
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  --prepare)
    architectures=90a-real
    if [[ ${2:-} == --architectures ]]; then architectures=${3:?gpu_check: --architectures needs a list}; fi
    prepare "$architectures"
    exit 0
    ;;
esac

[[ -x $tree/bin/core_test ]] || { echo "gpu_check: build/gpu is missing; run tools/gpu_check.sh --prepare first" >&2; exit 1; }
sections=("$@")
if ((${#sections[@]} == 0)); then sections=(info suite programs sanitize bench); fi
logs=$tree/logs
rm -rf "$logs"
mkdir -p "$logs"
summary=()

# The toolkit's libraries: where the loader finds them, in the toolkit, or beside PyTorch.
toolkit_folders() {
  local folder
  for folder in /usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/local/cuda/targets/x86_64-linux/lib; do
    compgen -G "$folder/libcublas.so.1[23]*" >/dev/null && echo "$folder"
  done
  python3 - <<'END' 2>/dev/null || true
import glob, site, sysconfig
for root in {*site.getsitepackages(), sysconfig.get_paths()["purelib"]}:
    for path in glob.glob(root + "/nvidia/*/lib"):
        print(path)
END
}
LD_LIBRARY_PATH=$PWD/$tree/lib:$(toolkit_folders | paste -sd:):${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH MOXIE_REQUIRE_CUDA=1 MOXIE_TEST_FIXTURES=$PWD/tests/fixtures

# Runs a program into a log of its own; notes how it ended and how long it took.
run() {
  local name=$1 started=$SECONDS status=0
  shift
  timeout "$limit" "$@" >"$logs/$name.txt" 2>&1 || status=$?
  local verdict=passed
  ((status == 0)) || verdict="FAILED ($status)"
  printf '%-36s %-14s %4d s  %s\n' "$name" "$verdict" $((SECONDS - started)) \
    "$(grep -aE 'assertions:|ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$name.txt" | tail -1 | cut -c1-90)"
  return "$status"
}

info() {
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || true
  echo "libraries: $LD_LIBRARY_PATH"
  ldd "$tree/bin/core_test" "$tree/lib/libmoxie.so" | grep -E 'not found|cublas|fmt|gomp' | sort -u || true
}

# The cases that need a GPU, in the binaries whose others prove the CPU's kernels at length.
on_device='*GPU*,*CUDA*'

# All at once: the tests are many small launches, which leave the GPU idle.
suite() {
  local name cases pids=()
  export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive
  for name in "${tests[@]}"; do
    [[ -x $tree/bin/${name}_test ]] || continue
    cases=()
    if [[ $name == core || $name == cuda ]]; then cases=(-tc="$on_device"); fi
    run "suite-$name" "$tree/bin/${name}_test" -d ${cases[@]+"${cases[@]}"} &
    pids+=($!)
  done
  local failed=0 pid
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

on_programs() {
  local pids=() pid failed=0
  export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive
  run programs-cuda_graph python3 tests/train_lm/cuda_graph_test.py --train "$tree/bin/train_lm" --device cuda &
  pids+=($!)
  run programs-train_lm python3 tests/train_lm/train_lm_test.py --train "$tree/bin/train_lm" --sample "$tree/bin/sample_lm" \
    --device cuda &
  pids+=($!)
  run programs-walkthroughs python3 tests/walkthroughs/walkthroughs_test.py --bin "$tree/bin" --device cuda &
  pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

# What the sanitizer slows down a hundredfold: few cases, few sizes, each group in a program of its own, as many at once
# as there are processors. MOXIE_TEST_SMALL skips gradient checks and large rows.
sanitized=(
  "core|core_test|$on_device|attention*,counting_sort*"
  "sort|core_test|counting_sort on a GPU*|"
  "attention-small|core_test|attention on a GPU: small*,attention on a GPU: large*,attention on a GPU: NaN*|"
  "attention-lengths|core_test|attention on a GPU: lengths*|"
  "attention-heads|core_test|attention on a GPU: grouped*|"
  "attention-caches|core_test|attention on a GPU: caches*|"
  "attention-windows|core_test|attention on a GPU: windows*|"
  "attention-rows|core_test|attention on a GPU: rows*|"
  "cuda|cuda_test|$on_device|"
  "moe-dispatch|moe_test|*dispatch*|dispatch and combine give*"
  "moe-erc|moe_test|*ERC loss in TF32*|"
  "ops-packs|ops_test|many rows and packs*|"
)
for case in "softmax*" "*rms_norm" "sum*" top_k "*cross_entropy" "matmul: m*" grouped_matmul embedding sort activate; do
  sanitized+=("ops-${case//[^a-z_]/}|ops_test|$case|")
done
# Cases that do nothing where only small ones are asked for, and what racecheck, by far the slowest, leaves out: those,
# and two whose kernels other groups run on fewer numbers.
nothing_small='^attention-(lengths|heads|caches|windows)$'
slow_to_race="$nothing_small|^ops-(sort|packs)$"

sanitize() {
  local tool group name program cases without small pid failed=0 at_once pids=()
  at_once=$(env -u OMP_NUM_THREADS nproc)  # which would count OMP_NUM_THREADS
  export OMP_NUM_THREADS=1
  for tool in $MOXIE_SANITIZE_TOOLS; do
    # what a test provokes on purpose (no memory left, a launch refused) is no error
    local sanitizer=(compute-sanitizer --tool "$tool" --error-exitcode 9)
    if [[ $tool == memcheck ]]; then sanitizer+=(--report-api-errors no); fi
    for group in "${sanitized[@]}"; do
      IFS='|' read -r name program cases without <<<"$group"
      [[ $name =~ $MOXIE_SANITIZE_GROUPS ]] || continue
      if [[ $tool == racecheck && $name =~ $slow_to_race ]]; then continue; fi
      small=1
      if [[ $name =~ $nothing_small ]]; then small=0; fi
      while (($(jobs -rp | wc -l) >= at_once)); do sleep 0.1; done
      MOXIE_TEST_SMALL=$small run "sanitize-$tool-$name" "${sanitizer[@]}" "$tree/bin/$program" -tc="$cases" \
        ${without:+-tce="$without"} &
      pids+=($!)
    done
  done
  if ((${#pids[@]} == 0)); then
    echo "no group of tests for '$MOXIE_SANITIZE_GROUPS' and $MOXIE_SANITIZE_TOOLS"
    return 1
  fi
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return "$failed"
}

bench() {
  local program failed=0
  for program in "$tree"/bin/gpu_*; do
    [[ -x $program ]] || continue
    run "bench-${program##*/}" "$program" || failed=1
    cat "$logs/bench-${program##*/}.txt"
  done
  return "$failed"
}

section_named() {
  case $1 in
    info) info ;;
    suite) suite ;;
    programs) on_programs ;;
    sanitize) sanitize ;;
    bench) bench ;;
    *) usage >&2; echo "gpu_check: unknown section $1" >&2; exit 1 ;;
  esac
}

failed=0
for section in "${sections[@]}"; do
  printf '\n== %s\n' "$section"
  started=$SECONDS
  if section_named "$section"; then verdict=passed; else verdict=FAILED failed=1; fi
  summary+=("$(printf '%-10s %-8s %4d s' "$section" "$verdict" $((SECONDS - started)))")
done

# What failed, before the table.
for log in "$logs"/suite-*.txt "$logs"/programs-*.txt; do
  [[ -e $log ]] || continue
  grep -aE -A7 'ERROR:|FATAL ERROR|Error:' "$log" | head -"${MOXIE_CHECK_LINES:-40}" || true
done
if [[ -n ${OUT:-} ]]; then tail -n +1 "$logs"/*.txt >"$OUT/gpu_check_$(IFS=_; echo "${sections[*]}").txt"; fi
printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
