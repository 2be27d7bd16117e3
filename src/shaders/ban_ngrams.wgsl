// ban_ngrams: y[b,t] = -1e30 where the last n - 1 tokens of row b and then t are n tokens in a row of source row b,
// else x[b,t]
//
// x, y     [B, V] f32      ids [B, N] u32, of which row b has lengths[b]      size (n) u32
// source   [S, M] u32, of which row s has source_lengths[s]; B is a multiple of S, and rows share sources in order
// grid     [B]: one workgroup a row, each thread strides V and then the source by WG
// traffic  read x, write y: bandwidth-bound; the source is read n times, mostly from cache
const WG: u32 = 64; // @const 64 8 256
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<u32>;
@group(0) @binding(4) var<storage, read> source_lengths: array<u32>;
@group(0) @binding(5) var<storage, read> size: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&lengths);
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  let V = arrayLength(&y) / rows;
  for (var i = thread; i < V; i += WG) {
    y[row * V + i] = x[row * V + i];
  }
  storageBarrier();
  workgroupBarrier();
  let before = size[0] - 1u;
  let N = arrayLength(&ids) / rows;
  let past = min(lengths[row], N);
  let sources = arrayLength(&source_lengths);
  let M = arrayLength(&source) / sources;
  let s = row / (rows / sources);
  let length = min(source_lengths[s], M);
  if (past < before || length < before) {
    return;
  }
  let tail = row * N + past - before;
  for (var i = thread; i < length - before; i += WG) {
    let at = s * M + i;
    var same = true;
    for (var j = 0u; same && j < before; j++) {
      same = source[at + j] == ids[tail + j];
    }
    let token = source[at + before];
    if (same && token < V) {
      y[row * V + token] = NEG;
    }
  }
}
