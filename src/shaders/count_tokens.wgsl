// count_tokens: counts[b,t] += how often token t is in tokens[cu_seqlens[b] .. cu_seqlens[b+1]); tokens from V on are
// left out
//
// counts   [B, V] u32      tokens [T] u32      cu_seqlens [B+1] u32
// grid     [B]: one workgroup a sequence
// traffic  read tokens, update that many counts
const WG: u32 = 64;
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> cu_seqlens: array<u32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let sequences = arrayLength(&cu_seqlens) - 1u;
  let b = flatGroup(group, groups);
  if (b >= sequences) {
    return;
  }
  let vocab = arrayLength(&counts) / sequences;
  for (var i = cu_seqlens[b] + thread; i < cu_seqlens[b + 1u]; i += WG) {
    if (tokens[i] < vocab) {
      atomicAdd(&counts[b * vocab + tokens[i]], 1u);
    }
  }
}
