// attention_rows: what attention.wgsl computes, for long batches on CPUs without subgroups
//
// grid     [1, tiles of tokens, heads]: a thread holds MINE queries and takes KEYS keys at a time, needing no other
// traffic  a thread reads its keys and values once for MINE queries; nothing of size T x keys is ever stored
// paper    https://arxiv.org/abs/1805.02867
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
const ROWS: u32 = 32; // @const
const PACK: u32 = 1; // @const
const MINE: u32 = 4; // @const
const KEYS: u32 = 8; // @const
const LANES: u32 = 8; // @const
const SPAN: u32 = 1;
const HELD: u32 = 1;
// @one-of F32 F16 BF16
// @optional BY_4 BIAS CAP MAPPED
// @include "floats.wgsl"
// @include "attention_tile.wgsl"

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let t = tileAt(group, groups);
  let row = lane * MINE;
  if (row >= t.tokens) {
    return;
  }
  let first = visible(t.place + i32(row), t.s.keys).x;
  let end = max(first, visible(t.place + i32(min(row + MINE, t.tokens)) - 1, t.s.keys).y);
  let head = queryAt(t, row).head;
  let slope = slopeOf(head);
  let sink = sinkOf(head);
  var at: array<u32, MINE>;
  var added: array<u32, MINE>;
  var largest: array<f32, MINE>;
  var total: array<f32, MINE>;
  var sum: array<vec4<f32>, MINE * QUADS>;
  // @unroll
  for (var r = 0u; r < MINE; r++) {
    let query = queryAt(t, row + r);
    at[r] = query.q;
    added[r] = query.bias;
    largest[r] = sink;
    total[r] = select(0.0, 1.0, sink > NEG);
  }
  let zero = geometry[ZERO]; // not known to compilers, which would unroll loops whose bodies are dear to compile
  for (var j = first; j < end; j += KEYS) {
    var score = array<array<f32, KEYS>, MINE>(); // then the weights
    var shrink: array<f32, MINE>;
    var begin: array<u32, KEYS>;
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      begin[i] = keyAt(t.s, t.k0, min(j + i, end - 1u));
    }
    for (var c = 0u; c < (DH + 3u) / 4u + zero; c++) {
      var query: array<vec4<f32>, MINE>;
      // @unroll
      for (var r = 0u; r < MINE; r++) {
        query[r] = queryQuad(at[r], c);
      }
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        let key = keyQuad(begin[i], c);
        // @unroll
        for (var r = 0u; r < MINE; r++) {
          score[r][i] += dot(query[r], key);
        }
      }
    }
    // @unroll
    for (var r = 0u; r < MINE; r++) {
      var most = largest[r];
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        score[r][i] = scoreOf(score[r][i], t.place + i32(row + r), j + i, end, slope, added[r]);
        most = max(most, score[r][i]);
      }
      shrink[r] = exp(largest[r] - most);
      largest[r] = most;
      total[r] *= shrink[r];
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        score[r][i] = select(0.0, exp(score[r][i] - most), score[r][i] > HIDDEN);
        total[r] += score[r][i];
      }
    }
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      begin[i] = valueAt(t.s, t.v0, min(j + i, end - 1u));
    }
    for (var c = 0u; c < QUADS + zero; c++) {
      var part: array<vec4<f32>, MINE>;
      // @unroll
      for (var r = 0u; r < MINE; r++) {
        part[r] = sum[r * QUADS + c] * shrink[r];
      }
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        let value = valueQuad(begin[i], c);
        // @unroll
        for (var r = 0u; r < MINE; r++) {
          part[r] += value * score[r][i];
        }
      }
      // @unroll
      for (var r = 0u; r < MINE; r++) {
        sum[r * QUADS + c] = part[r];
      }
    }
  }
  // @unroll
  for (var r = 0u; r < MINE; r++) {
    if (row + r < t.tokens) {
      let to = oAt(t.s, t.s.start + t.first + row + r, head, DV);
      let share = select(0.0, 1.0 / total[r], total[r] > 0.0); // a query that sees no key gives zeros
      for (var c = 0u; c < QUADS + zero; c++) {
        storeQuad(to, c, sum[r * QUADS + c] * share);
      }
    }
  }
}
