#!/bin/sh
# Tests of subgroup matrices without a GPU; --help says how.
set -eu
cd "$(dirname "$0")/.."

usage="Usage: tools/matrix_tests.sh [--root FOLDER] [--setup] [filter...]

Runs tests with Dawn's subgroup matrices on the CPU. Mesa's lavapipe has them from version 26 on, so this makes a Debian of
its own in a folder (trixie, with the Mesa of its backports; about 600 MB) and runs tools/test.ts there with
TENSAUR_TEST_RUNG=matrix. What is there already is kept: the second run installs nothing. Nothing outside the folder
changes; the repository and Deno's cache are mounted in it while the tests run.

Needs Debian or Ubuntu, root, debootstrap (apt-get install debootstrap), and the network for the first run.

  --root FOLDER   where that Debian lies; default: \${XDG_CACHE_HOME:-~/.cache}/tensaur/matrix_root
  --setup         only make it
  filter          as ./tensaur test takes them; default: the kernel, the probe and models in 16 bits

DENO names the deno to run, if none is on PATH."

say() { printf 'matrix_tests: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

root=${XDG_CACHE_HOME:-$HOME/.cache}/tensaur/matrix_root
only_setup=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      printf '%s\n' "$usage"
      exit 0
      ;;
    --root)
      [ $# -gt 1 ] || die "--root wants a folder"
      root=$2
      shift
      ;;
    --setup) only_setup=1 ;;
    -*)
      printf '%s\n' "$usage" >&2
      exit 2
      ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || set -- probe_matrix matmul_ subgroup_matrix models/dtype

[ "$(id -u)" = 0 ] || die "it must run as root: a chroot and mounts need that"
deno=${DENO:-$(command -v deno || true)}
[ -x "$deno" ] || die "there is no deno: put it on PATH, or name it with DENO"

suite=trixie driver=usr/share/vulkan/icd.d/lvp_icd.json
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C HOME=/root "$@"; }
mesa() { in_root dpkg-query --show --showformat='${Version}' mesa-vulkan-drivers 2>/dev/null | cut -d. -f1; }

if [ ! -e "$root/etc/debian_version" ] || [ -e "$root/debootstrap" ]; then
  command -v debootstrap >/dev/null || die "there is no debootstrap: apt-get install debootstrap"
  say "makes a Debian $suite in $root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" >"$root.log" 2>&1 || die "debootstrap failed: see $root.log"
fi
version=$(mesa || true)
if [ "${version:-0}" -lt 26 ]; then
  say "installs the Vulkan driver of $suite-backports"
  lists=$root/etc/apt/sources.list.d
  grep -qs -- "$suite-backports" "$lists"/*.list ||
    sed -n "s/^\\(deb .*\\) $suite main.*/\\1 $suite-backports main/p" "$root/etc/apt/sources.list" >"$lists/backports.list"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  {
    in_root apt-get update &&
      in_root apt-get install --yes --no-install-recommends libvulkan1 &&
      in_root apt-get install --yes --no-install-recommends --target-release "$suite-backports" mesa-vulkan-drivers
  } >>"$root.log" 2>&1 || die "apt-get failed: see $root.log"
  version=$(mesa)
  [ "$version" -ge 26 ] || die "Mesa must be 26 or later: $suite-backports has $version"
  in_root apt-get clean
fi
say "Mesa $version in $root"
[ -z "$only_setup" ] || exit 0

cmp -s "$deno" "$root/usr/local/bin/deno" || cp "$deno" "$root/usr/local/bin/deno"
deno_dir=${DENO_DIR:-$("$deno" info --json | sed -n 's/.*"denoDir": "\(.*\)".*/\1/p')}
mkdir -p "$root/src/tensaur" "$root/src/shared" "$root/deno_dir" "$deno_dir"

# Mounts in a namespace of their own go with the process.
# shellcheck disable=SC2016
exec unshare --mount sh -eu -c '
  root=$1 repository=$2 deno_dir=$3 driver=$4
  shift 4
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount --bind "$repository" "$root/src/tensaur"
  mount --bind "$deno_dir" "$root/deno_dir"
  [ ! -d "$repository/../shared" ] || mount --bind "$repository/../shared" "$root/src/shared"
  mkdir -p "$root/tmp/runtime"
  exec chroot "$root" env HOME=/root DENO_DIR=/deno_dir XDG_RUNTIME_DIR=/tmp/runtime VK_ICD_FILENAMES="/$driver" \
    TENSAUR_TEST_RUNG=matrix sh -c "cd /src/tensaur && exec deno run --allow-all tools/test.ts \"\$@\"" sh "$@"
' sh "$root" "$PWD" "$deno_dir" "$driver" "$@"
