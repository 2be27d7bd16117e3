// kv: where keys and values lie. The shader declares the bindings cuSeqlens, geometry and, unless PACKED, past.
// geometry = (H, Hkv, elements from one sequence to the next, from one head to the next, from one key to the next,
//           window or 0, scale as f32 bits, 1 if causal)
struct Row {
  sequence: u32, // which sequence the token is of
  slot: u32, // its place in that sequence, counted from the first key
  keys: u32, // keys that the sequence has, this batch's included
  base: u32, // element where the sequence's first key begins
}

fn locate(token: u32) -> Row {
  var low = 0u; // the last sequence that begins at or before the token
  var high = arrayLength(&cuSeqlens) - 2u;
  while (low < high) {
    let middle = (low + high + 1u) / 2u;
    if (cuSeqlens[middle] <= token) {
      low = middle;
    } else {
      high = middle - 1u;
    }
  }
  let start = cuSeqlens[low];
  // @if PACKED
  return Row(low, token - start, cuSeqlens[low + 1u] - start, start * geometry[4]);
  // @else
  let before = past[low];
  return Row(low, before + token - start, before + cuSeqlens[low + 1u] - start, low * geometry[2]);
  // @end
}

// Keys that a token may see: [x, y).
fn visible(row: Row) -> vec2<u32> {
  let window = geometry[5];
  let end = select(row.keys, row.slot + 1u, geometry[7] == 1u);
  return vec2<u32>(select(0u, row.slot + 1u - window, window > 0u && row.slot + 1u > window), end);
}
