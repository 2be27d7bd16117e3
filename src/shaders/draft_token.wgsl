// draft_token: ends a step of a draft: the likeliest token after the last row becomes the next input and the next of the
// window; the draft is over with one that ends a sequence or is less likely than the threshold, and counts no more of them
//
// with DRAWN that token is given, and the last row is kept
//
// logits   [rows, V] f32      settings (V, threshold as f32 bits, tokens that end a sequence …)
// chosen   [rows] u32         kept     [most drafts, V] f32
// changes  tokens, positions [1] u32: the next input; window [n] u32 and state, which accept_drafts explains
// grid     one workgroup; where a logit is not finite, the draft is over with 2 instead of 1
const WG: u32 = 64; // @const 64 8 256
// @optional DRAWN
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> settings: array<u32>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> positions: array<u32>;
@group(0) @binding(4) var<storage, read_write> window: array<u32>;
@group(0) @binding(5) var<storage, read_write> state: array<u32>;
// @if DRAWN
@group(0) @binding(6) var<storage, read> chosen: array<u32>;
@group(0) @binding(7) var<storage, read_write> kept: array<f32>;
// @end

const LEAST: f32 = -3.4e38;

var<workgroup> bests: array<f32, WG>;
var<workgroup> places: array<u32, WG>;
var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) thread: u32) {
  let V = settings[0];
  let start = arrayLength(&logits) - V;
  // one pass: the greatest so far, and the sum of exp(x - greatest)
  var best = LEAST;
  var place = 0u;
  var sum = 0.0;
  // @if DRAWN
  let row = state[1] * V;
  // @end
  for (var i = thread; i < V; i += WG) {
    let x = logits[start + i];
    // @if DRAWN
    kept[row + i] = x;
    // @end
    if (x > best) {
      sum = sum * exp(best - x) + 1.0;
      best = x;
      place = i;
    } else {
      sum += exp(x - best);
    }
  }
  bests[thread] = best;
  places[thread] = place;
  sums[thread] = sum;
  workgroupBarrier();
  if (thread > 0u) {
    return;
  }
  for (var other = 1u; other < WG; other++) {
    let x = bests[other];
    if (x > best || (x == best && places[other] < place)) {
      sum = sum * exp(best - x) + sums[other];
      best = x;
      place = places[other];
    } else {
      sum += sums[other] * exp(x - best);
    }
  }
  // @if DRAWN
  place = chosen[arrayLength(&chosen) - 1u];
  sum /= max(exp(logits[start + min(place, V - 1u)] - best), 1e-30);
  // @end
  let drafted = state[1];
  window[drafted + 1u] = place;
  tokens[0] = place;
  positions[0] = state[0] + drafted + 1u;
  state[1] = drafted + 1u;
  if (state[3] == 1u) {
    return;
  }
  state[2] = drafted + 1u;
  var over = !(1.0 >= bitcast<f32>(settings[1]) * sum); // it has the probability 1 / sum
  for (var i = 2u; i < arrayLength(&settings); i++) {
    over = over || place == settings[i];
  }
  let broken = max(bitcast<u32>(sum) & 0x7f800000u, bitcast<u32>(best) & 0x7f800000u) == 0x7f800000u || place >= V;
  state[3] = select(u32(over), 2u, broken);
}
