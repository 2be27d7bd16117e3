// watermark_logits: y[b,t] = x[b,t] + bias where token t is green after the last tokens of row b
//
// x, y     [B, V] f32      ids [B, N] u32, of which row b has lengths[b]
// settings u32: the key's two words, the share of green tokens times 2^32, bias (bits of f32), 1 for selfhash, context
// grid     [B * V / BLOCK], 64 threads a workgroup; rows with fewer tokens than the context stay as they are
// traffic  read x, write y; two hashes a token, with selfhash one more for each token of the context: arithmetic-bound
// paper    https://arxiv.org/abs/2306.04634
const BLOCK: u32 = 512u;
// @include "grid.wgsl"
// @include "random.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> settings: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * BLOCK;
  let end = min(start + BLOCK, arrayLength(&y));
  let rows = arrayLength(&lengths);
  let V = arrayLength(&y) / rows;
  let N = arrayLength(&ids) / rows;
  let key = vec2<u32>(settings[0], settings[1]);
  let context = settings[5];
  for (var i = start + thread; i < end; i += 64u) {
    let row = i / V;
    let token = i % V;
    let past = min(lengths[row], N);
    if (past < context) {
      y[i] = x[i];
      continue;
    }
    let last = row * N + past - 1u;
    var seed = ids[last];
    if (settings[4] == 1u) {
      seed = pcg4d(vec4<u32>(key, token, token)).x;
      for (var j = 0u; j + 1u < context; j++) {
        seed = min(seed, pcg4d(vec4<u32>(key, ids[last - j], token)).x);
      }
    }
    let words = pcg4d(vec4<u32>(key, seed, settings[4]));
    let green = pcg4d(vec4<u32>(words.x ^ token, words.yzw)).x < settings[2];
    y[i] = x[i] + select(0.0, bitcast<f32>(settings[3]), green);
  }
}
