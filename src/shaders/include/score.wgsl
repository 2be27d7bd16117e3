// score: what happens to q · k before the softmax; kv.wgsl and floats.wgsl come first, and with BIAS a binding `bias`.
// A score that is hidden by a mask is HIDDEN; every other is at least NEG, which PyTorch's -3.4e38 becomes too.
const HIDDEN: f32 = -2e30;

fn capped(s: f32) -> f32 {
  let cap = bitcast<f32>(geometry[SOFTCAP]);
  if (cap > 0.0) {
    return cap * tanh(clamp(s / cap, -9.01, 9.01));
  }
  return s;
}

// @if BIAS
fn biasAt(s: Sequence, head: u32) -> u32 {
  return s.index * geometry[BIAS_STRIDES] + head * geometry[BIAS_STRIDES + 1u];
}

fn biased(s: f32, added: u32, place: i32, key: u32) -> f32 {
  let reach = i32(geometry[BIAS_REACH]);
  let row = select(key, u32(clamp(i32(key) - place, -reach, reach) + reach), reach > 0);
  let at = added + row * geometry[BIAS_STRIDES + 3u];
  let bits = bias[at];
  let hidden = select(bits == 0xff800000u, bits == 0u, geometry[BIAS_IS_MASK] == 1u);
  let sum = max(s + select(bitcast<f32>(bits), 0.0, hidden || geometry[BIAS_IS_MASK] == 1u), NEG);
  return select(sum, HIDDEN, hidden);
}
// @end
