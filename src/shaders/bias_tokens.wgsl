// bias_tokens: y[b,t] = x[b,t] + the biases of token t that hold at this step and after row b's last tokens
//
// x, y     [B, V] f32; -1e30 where a bias is -infinity      width: V elements, bound for their number      step [1] u32
// table    u32: n; n + 1 pairs (token, its first entry), by token; entries of 5 (bias, from step, until step, where its
//          preceding tokens lie in the table, how many); these tokens
// ids      [B, N] u32, of which row b has lengths[b]; any buffer if no entry has preceding tokens
// grid     [B * V / BLOCK], 64 threads a workgroup; a thread looks its tokens up by halving
// traffic  read x, write y: bandwidth-bound
const BLOCK: u32 = 512u;
const FIELDS: u32 = 5u;
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> width: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read> ids: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

// whether the entry holds for the row
fn holds(entry: u32, row: u32, rows: u32) -> bool {
  if (step[0] < table[entry + 1u] || step[0] >= table[entry + 2u]) {
    return false;
  }
  let first = table[entry + 3u];
  let count = table[entry + 4u];
  if (count == 0u) {
    return true;
  }
  let past = min(lengths[row], arrayLength(&ids) / rows);
  if (count > past) {
    return false;
  }
  let start = row * (arrayLength(&ids) / rows) + past - count;
  for (var i = 0u; i < count; i++) {
    if (ids[start + i] != table[first + i]) {
      return false;
    }
  }
  return true;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * BLOCK;
  let end = min(start + BLOCK, arrayLength(&y));
  let V = arrayLength(&width);
  let rows = arrayLength(&y) / V;
  let n = table[0];
  for (var i = start + thread; i < end; i += 64u) {
    let token = i % V;
    var low = 0u;
    var high = n;
    while (low < high) {
      let middle = (low + high) / 2u;
      if (table[1u + 2u * middle] < token) {
        low = middle + 1u;
      } else {
        high = middle;
      }
    }
    var value = x[i];
    if (low < n && table[1u + 2u * low] == token) {
      var bias = 0.0;
      var forbidden = false;
      for (var entry = table[2u + 2u * low]; entry < table[4u + 2u * low]; entry += FIELDS) {
        if (holds(entry, i / V, rows)) {
          let by = bitcast<f32>(table[entry]);
          forbidden = forbidden || by <= NEG;
          bias += by;
        }
      }
      value = select(value + bias, NEG, forbidden);
    }
    y[i] = value;
  }
}
