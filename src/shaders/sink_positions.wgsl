// sink_positions: where the tokens of a batch stand for a cache that keeps `window` tokens
//
// past [B], cuSeqlens [B + 1] u32      positions [T] u32: min(past, window - n) + i for token i of n, its slot;
//          with DRIFT min(past, window) + i and what the keys have been turned by, as Transformers 4.46 has it
// grid     [B]: a thread strides the tokens of a sequence
// @optional DRIFT
override WINDOW: u32 = 256;

@group(0) @binding(0) var<storage, read> past: array<u32>;
@group(0) @binding(1) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(2) var<storage, read_write> positions: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let start = cuSeqlens[group.x];
  let tokens = cuSeqlens[group.x + 1u] - start;
  let before = past[group.x];
  // @if DRIFT
  let all = before + tokens;
  let left = all - min(all, WINDOW);
  let first = min(before, WINDOW) + left + select(0u, 1u, before > 0u && all >= WINDOW);
  // @else
  let first = min(before, WINDOW - min(WINDOW, tokens));
  // @end
  for (var i = thread; i < tokens; i += 64u) {
    positions[start + i] = first + i;
  }
}
