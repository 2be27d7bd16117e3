// conv_state: the newest column of a convolution's window: rows move left by one once the window is full
//
// states   [B, I, K] f32      column [B, I] f32      positions [B] u32: tokens that the sequence has had
// grid     a thread a row of K
@group(0) @binding(0) var<storage, read_write> states: array<f32>;
@group(0) @binding(1) var<storage, read> column: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let rows = arrayLength(&column);
  if (id.x >= rows) {
    return;
  }
  let K = arrayLength(&states) / rows;
  let position = positions[id.x / (rows / arrayLength(&positions))];
  let first = id.x * K;
  for (var i = 0u; position >= K && i + 1u < K; i++) {
    states[first + i] = states[first + i + 1u];
  }
  states[first + min(position, K - 1u)] = column[id.x];
}
