#!/bin/sh
# Gathers in .gpu/ what a GPU machine without network and packages needs: Deno's wheel, npm packages, the Vulkan loader, and
# of the peers (deno task bench peers-setup) jax-js, which is small. Then carry .gpu/ there with the checkout (about 60 MB)
# and run tools/gpu_run.sh.
#
#     tools/gpu_prepare.sh
set -eu
cd "$(dirname "$0")/.."
deno=${DENO:-deno}
peers=${TENSAUR_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/tensaur/peers}
rm -rf .gpu
mkdir -p .gpu/wheel .gpu/debs

python3 -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_27_x86_64 --python-version 3.12 \
  --dest .gpu/wheel "deno==2.9.6"

# what tests, benches and the command line import, Dawn too, without the other systems' copies of it and without charts
export DENO_DIR="$PWD/.gpu/deno_dir"
find bench tests -name '*.ts' ! -name 'default_model_*' -exec "$deno" cache --quiet cli.ts npm:webgpu npm:@huggingface/hub {} +
find .gpu/deno_dir/npm -path '*webgpu/*/dist/*' -prune ! -name linux-x64 -type d -exec rm -rf {} +
find .gpu/deno_dir/npm -maxdepth 2 \( -name 'vega*' -o -name 'd3-*' -o -name 'topojson*' \) -exec rm -rf {} +
find .gpu/deno_dir/npm -name '*.map' -delete
rm -rf .gpu/deno_dir/*cache_v* .gpu/deno_dir/gen
tar -C .gpu -czf .gpu/deno_dir.tgz deno_dir
rm -rf .gpu/deno_dir

if [ -d "$peers/node_modules/@jax-js" ]; then
  tar -C "$peers" -czf .gpu/peers.tgz lib.mjs jax_ops.mjs package.json node_modules/@jax-js
fi
if command -v apt-get >/dev/null; then
  (cd .gpu/debs && apt-get download libvulkan1) || echo "no libvulkan1: bring the Vulkan loader yourself" >&2
fi
du -sh .gpu
