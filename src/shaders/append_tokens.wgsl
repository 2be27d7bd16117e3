// append_tokens: ids[b, lengths[b]] = tokens[b], lengths[b] += 1; a row that is full stays as it is
//
// ids      [B, N] u32      lengths [B] u32, of which both change      tokens [B] u32
// grid     [B / 64], a thread a row
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> lengths: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let b = id.x;
  let N = arrayLength(&ids) / arrayLength(&tokens);
  if (b < arrayLength(&tokens) && lengths[b] < N) {
    ids[b * N + lengths[b]] = tokens[b];
    lengths[b] += 1u;
  }
}
