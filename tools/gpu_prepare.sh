#!/bin/sh
# Gathers in .gpu/ what a GPU machine without network and packages needs: Deno's wheel, npm packages, Vulkan loaders.
# Then carry .gpu/ there with the checkout (about 60 MB) and run tools/gpu_run.sh.
#
#     tools/gpu_prepare.sh
set -eu
cd "$(dirname "$0")/.."
deno=${DENO:-deno}
rm -rf .gpu
mkdir -p .gpu/wheel .gpu/debs

python3 -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_27_x86_64 --python-version 3.12 \
  --dest .gpu/wheel "deno==2.9.6"

# npm packages that the tests and the command line import, without the other systems' copies of Dawn
DENO_DIR=$PWD/.gpu/deno_dir "$deno" install --quiet --frozen
find .gpu/deno_dir/npm -path '*webgpu/*/dist/*' -prune ! -name linux-x64 -type d -exec rm -rf {} +
tar -C .gpu -czf .gpu/deno_dir.tgz deno_dir
rm -rf .gpu/deno_dir

if command -v apt-get >/dev/null; then
  (cd .gpu/debs && apt-get download libvulkan1) || echo "no libvulkan1: bring the Vulkan loader yourself" >&2
fi
du -sh .gpu
