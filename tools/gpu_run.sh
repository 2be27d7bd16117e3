#!/bin/sh
# On a machine with a GPU: the parity tests and the benches, on Deno's wgpu and on Dawn. Logs and JSON go to $OUT.
#
#     OUT=bench/results/my-gpu tools/gpu_run.sh [minutes]
#
# Uses .gpu/ (tools/gpu_prepare.sh) where there is no deno and no network. Each part has its own time limit, so that a
# part that hangs does not cost the others.
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-bench/results/gpu}
limit=$((${1:-9} * 60))
start=$(date +%s)
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)

if [ -d .gpu ]; then
  work=${TMPDIR:-/tmp}/tensaur-gpu
  mkdir -p "$work"
  for deb in .gpu/debs/*.deb; do
    [ -e "$deb" ] && dpkg -x "$deb" / 2>/dev/null
  done
  ldconfig 2>/dev/null
  [ -x "$work/bin/deno" ] || python3 -m pip install --quiet --no-index --no-deps --target "$work" .gpu/wheel/*.whl
  tar -C "$work" -xzf .gpu/deno_dir.tgz
  export DENO_DIR="$work/deno_dir"
  deno=$(find "$work" -name deno -type f -perm -u+x | head -n 1)
else
  deno=${DENO:-deno}
fi
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$(mktemp -d)}" DENO_WEBGPU_BACKEND="${DENO_WEBGPU_BACKEND:-vulkan}"
export TENSAUR_COMMIT="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"

# part NAME SECONDS COMMAND…: runs it, keeps its output, and says how it ended
part() {
  name=$1 seconds=$2
  shift 2
  left=$((limit - ($(date +%s) - start)))
  [ "$left" -lt 10 ] && echo "$name: no time left" && return
  [ "$seconds" -gt "$left" ] && seconds=$left
  timeout -k 5 "$seconds" "$@" >"$OUT/$name.log" 2>&1
  echo "$name: exit $? ($(tail -n 1 "$OUT/$name.log"))" | tee -a "$OUT/summary.txt"
}

: >"$OUT/summary.txt"
flags="--allow-all --cached-only"
nvidia-smi >"$OUT/nvidia_smi.txt" 2>&1
# shellcheck disable=SC2086
{
  part devices 60 "$deno" run $flags cli.ts devices --json
  part generate 60 "$deno" run $flags cli.ts generate --json --seed 7 -n 64 "Once upon a time"
  part bench 150 "$deno" run $flags bench/all.ts --out "$OUT/bench.txt"
  part ops_wgpu 120 "$deno" test --allow-all --cached-only --no-check tests/ops
  part models_wgpu 150 "$deno" test --allow-all --cached-only --no-check tests/models tests/generation
  part gpu_wgpu 120 "$deno" test --allow-all --cached-only --no-check tests/gpu tests/tensor tests/cache
  TENSAUR_TEST_PROVIDER=dawn part ops_dawn 120 "$deno" test --allow-all --cached-only --no-check tests/ops
}
cat "$OUT/summary.txt"
