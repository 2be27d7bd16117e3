#!/bin/sh
# On a machine with a GPU: tests and benches, on Deno's wgpu and on Dawn. Logs and JSON go to $OUT, a line a part to
# $OUT/summary.txt.
#
#     OUT=bench/results/my-gpu tools/gpu_run.sh [tests|parity|matrix|bench|attention|peers]...
#
# Without a name all of them run. MINUTES (default 9) is the limit of the whole call, so that a name a call fits where
# commands end after ten minutes; each part has a limit of its own besides, so that one that hangs does not cost the others.
# Uses .gpu/ (tools/gpu_prepare.sh) where there is no deno and no network. QUICK=1 takes few repetitions.
set -u
cd "$(dirname "$0")/.." || exit
OUT=${OUT:-bench/results/gpu}
limit=$((${MINUTES:-9} * 60))
start=$(date +%s)
steps=${*:-tests parity matrix bench attention peers}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)

if [ -d .gpu ]; then
  work=${TMPDIR:-/tmp}/tensaur-gpu
  mkdir -p "$work"
  if ! ldconfig -p | grep -q libvulkan.so.1; then
    for deb in .gpu/debs/*.deb; do
      [ -e "$deb" ] && dpkg -x "$deb" / 2>/dev/null
    done
    ldconfig 2>/dev/null
  fi
  find "$work" -name deno -type f 2>/dev/null | grep -q . ||
    python3 -m pip install --quiet --no-index --no-deps --target "$work" .gpu/wheel/*.whl
  tar -C "$work" -xzf .gpu/deno_dir.tgz
  export DENO_DIR="$work/deno_dir"
  deno=$(find "$work" -name deno -type f -perm -u+x | head -n 1)
  if [ -e .gpu/peers.tgz ]; then
    export TENSAUR_PEERS="$work/peers"
    mkdir -p "$TENSAUR_PEERS"
    tar -C "$TENSAUR_PEERS" -xzf .gpu/peers.tgz
  fi
  cached=--cached-only
else
  deno=${DENO:-deno}
  cached=
fi
[ -n "$deno" ] || { echo "there is no deno: tools/gpu_prepare.sh gathers it" >&2; exit 1; }
icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json # where containers have the driver
[ -e "$icd" ] && [ -z "${VK_ICD_FILENAMES:-}${VK_DRIVER_FILES:-}" ] && export VK_DRIVER_FILES="$icd"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}" DENO_WEBGPU_BACKEND="${DENO_WEBGPU_BACKEND:-vulkan}"
export DENO_NO_UPDATE_CHECK=1 NO_COLOR=1
TENSAUR_COMMIT=${TENSAUR_COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}
export TENSAUR_COMMIT

# part NAME SECONDS COMMAND…: runs it, keeps its output, and says how it ended
part() {
  name=$1 seconds=$2
  shift 2
  left=$((limit - ($(date +%s) - start)))
  [ "$left" -lt 10 ] && echo "$name: no time left" | tee -a "$OUT/summary.txt" && return
  [ "$seconds" -gt "$left" ] && seconds=$left
  began=$(date +%s)
  # shellcheck disable=SC2086
  timeout -k 5 "$seconds" env $with "$@" >"$OUT/$name.log" 2>&1
  code=$?
  echo "$name: exit $code, $(($(date +%s) - began)) s ($(grep -v '^ *$' "$OUT/$name.log" | tail -n 1 | cut -c -150))" |
    tee -a "$OUT/summary.txt"
}
# room SECONDS: how long of them a bench may still begin something
room() {
  left=$((limit - ($(date +%s) - start)))
  echo $((($1 < left ? $1 : left) - 15))
}
# runs NAME SECONDS SCRIPT…; on NAME SECONDS VARIABLE=VALUE SCRIPT… sets it for this one
runs() {
  name=$1 seconds=$2
  shift 2
  part "$name" "$seconds" "$deno" run --allow-all $cached "$@"
}
on() {
  name=$1 seconds=$2 with=$3
  shift 3
  runs "$name" "$seconds" "$@"
  with=
}
with=
quick=${QUICK:+--quick}
dawn=TENSAUR_TEST_PROVIDER=dawn plain=TENSAUR_TEST_RUNG=plain matrix=TENSAUR_TEST_RUNG=matrix
: >"$OUT/summary.txt"

runs devices 60 cli.ts devices --json
nvidia-smi >"$OUT/nvidia_smi.txt" 2>&1
for step in $steps; do
  case $step in
    tests)
      runs gpu_wgpu 150 tools/test.ts tests/gpu/ tests/tensor/ tests/cache/
      runs ops_wgpu 190 tools/test.ts tests/ops/
      on ops_dawn 190 $dawn tools/test.ts tests/ops/
      ;;
    parity) # the same golden values on every rung
      runs generate 60 cli.ts generate --json --seed 7 -n 64 "Once upon a time"
      runs models_wgpu 200 tools/test.ts tests/models/ tests/generation/
      on models_plain 140 $plain tools/test.ts tests/models/parity tests/generation/goldens tests/generation/greedy
      on models_dawn 140 $dawn tools/test.ts tests/models/parity tests/generation/goldens tests/generation/greedy
      ;;
    matrix) # Dawn's subgroup matrices: right, and how fast by which tiles (gigaflopsPerSecond of 4096 cubed in the JSON)
      on matrix_tests 190 $matrix tools/test.ts probe_matrix matmul_ subgroup_matrix models/dtype
      on matrix_bench 150 $matrix bench/all.ts report $quick --print matmul_bench matmul_subgroup_matrix_bench \
        --only "4096] x [4096, 4096]" --limit "$(room 150)" --save "$OUT/report_matrix.json"
      runs gate_matrix 20 bench/all.ts gate --saved "$OUT/report_matrix.json"
      ;;
    bench)
      runs bench 330 bench/all.ts report $quick --print --limit "$(room 330)" --save "$OUT/report.json" --out "$OUT/bench.txt"
      runs gate 20 bench/all.ts gate --saved "$OUT/report.json"
      on bench_dawn 120 $dawn bench/all.ts report $quick --print matmul_bench quantized_matmul_bench attention_bench \
        --limit "$(room 120)" --save "$OUT/report_dawn.json"
      runs gate_dawn 20 bench/all.ts gate --saved "$OUT/report_dawn.json"
      ;;
    attention) runs attention 400 bench/all.ts attention --print ;;
    peers) runs peers 400 bench/all.ts peers $quick --print --limit "$(room 400)" --save "$OUT/peers.json" ;;
    *) echo "there is no step $step" >&2 && exit 1 ;;
  esac
done
cat "$OUT/summary.txt"
