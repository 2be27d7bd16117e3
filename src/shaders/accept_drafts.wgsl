// accept_drafts: ends a round of speculative decoding: drafted tokens are kept as long as the model chose the same, then
// the model's own choice; these go to the ring, and the last of them begins the next window. Of a draft that was made here
// none counts that came after it was over
//
// chosen   [k + 1] u32: what the model chose after each token of the window      logits  [k + 1, V] f32 it chose from
// changes  window [n] u32: the last token, then drafts; positions, steps [n] u32: where they stand, and how many tokens
//          were chosen before the one that follows; pair, pairPositions [2] u32: the last two tokens; state (below)
// state    place of the last token, drafted, sure, over; tokens in all; sure, accepted, over of this round; the ring
// grid     one workgroup; a token whose logit is not finite is written as 0xffffffff, which the host takes for an error
@group(0) @binding(0) var<storage, read> chosen: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> window: array<u32>;
@group(0) @binding(3) var<storage, read_write> positions: array<u32>;
@group(0) @binding(4) var<storage, read_write> steps: array<u32>;
@group(0) @binding(5) var<storage, read_write> pair: array<u32>;
@group(0) @binding(6) var<storage, read_write> pairPositions: array<u32>;
@group(0) @binding(7) var<storage, read_write> state: array<u32>;

const HEADER: u32 = 8u;
const INVALID: u32 = 0xffffffffu;

var<workgroup> next: vec2<u32>; // where the next window begins, and the tokens in all

fn choiceAt(i: u32) -> u32 {
  let V = arrayLength(&logits) / arrayLength(&chosen);
  let token = chosen[i];
  let bits = logits[i * V + min(token, V - 1u)];
  return select(token, INVALID, token >= V || (bits & 0x7f800000u) == 0x7f800000u);
}

fn acceptAll() {
  let width = arrayLength(&chosen) - 1u;
  let k = select(width, min(width, state[2]), state[1] > 0u);
  var accepted = 0u;
  while (accepted < k && choiceAt(accepted) == window[accepted + 1u]) {
    accepted++;
  }
  let ring = arrayLength(&state) - HEADER;
  for (var i = 0u; i <= accepted; i++) {
    state[HEADER + (state[4] + i) % ring] = choiceAt(i);
  }
  let last = choiceAt(accepted);
  pair[0] = window[accepted];
  pair[1] = select(last, 0u, last == INVALID);
  window[0] = pair[1];
  let place = state[0] + accepted + 1u;
  pairPositions[0] = place - 1u;
  pairPositions[1] = place;
  state[5] = state[2];
  state[6] = accepted;
  state[7] = state[3];
  state[0] = place;
  state[1] = 0u;
  state[2] = 0u;
  state[3] = 0u;
  state[4] += accepted + 1u;
  next = vec2<u32>(place, state[4]);
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
  if (thread == 0u) {
    acceptAll();
  }
  workgroupBarrier();
  for (var i = thread; i < arrayLength(&positions); i += 64u) {
    positions[i] = next.x + i;
    steps[i] = next.y + i;
  }
}
