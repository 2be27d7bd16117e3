// attention_rows: what attention.wgsl computes, for long batches on CPUs without subgroups
//
// grid     [1, tiles of tokens, heads]: a thread holds MINE queries and takes KEYS keys at a time, needing no other
// memory   a CPU reads an array at an index as slowly as a buffer, lane by lane. So ASKED fours of its queries, then HELD
//          fours of its sums stay in registers while a thread goes over KEYS keys; only their weights are indexed. Sums
//          wait in o: an array for them would be cleared element by element, which takes seconds to compile
// traffic  a thread reads its keys and values once for MINE queries; nothing of size T x keys is ever stored
// paper    https://arxiv.org/abs/1805.02867
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
const ROWS: u32 = 32; // @const
const PACK: u32 = 1; // @const
const MINE: u32 = 4; // @const
const KEYS: u32 = 64; // @const
const LANES: u32 = 8; // @const
const ASKED: u32 = 4; // @const
const HELD: u32 = 2; // @const
const SPAN: u32 = 1;
// @one-of F32 F16 BF16
// @optional BY_4 BIAS CAP MAPPED
// @include "floats.wgsl"
// @include "attention_tile.wgsl"

const Q4: u32 = (DH + 3) / 4;

// Four elements of o, where sums wait.
fn sumQuad(at: u32, quad: u32) -> vec4<f32> {
  let e = at + 4u * min(quad, QUADS - 1u);
  // @if BY_4
  return vec4<f32>(o[e], o[e + 1u], o[e + 2u], o[e + 3u]);
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    if (4u * quad + i < DV) {
      four[i] = o[e + i];
    }
  }
  return four;
  // @end
}

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
  var largest: array<f32, MINE>;
  var total: array<f32, MINE>;
  var shrink: array<f32, MINE>;
  var weight: array<f32, MINE * KEYS>; // first the scores
  let zero = geometry[ZERO]; // not known to compilers, which would unroll loops whose bodies are dear to compile
  for (var r = 0u; r < MINE + zero; r++) {
    largest[r] = sink;
    total[r] = select(0.0, 1.0, sink > NEG);
  }
  for (var j = first; j < end; j += KEYS) {
    let keys = min(KEYS, end - j);
    for (var c = 0u; c < Q4 + zero; c += ASKED) {
      var query: array<array<vec4<f32>, ASKED>, MINE>;
      for (var r = 0u; r < MINE + zero; r++) {
        let at = queryAt(t, row + r).q;
        // @unroll
        for (var n = 0u; n < ASKED; n++) {
          let four = select(vec4<f32>(), queryQuad(at, min(c + n, Q4 - 1u)), c + n < Q4);
          // @unroll
          for (var m = 0u; m < MINE; m++) {
            query[m][n] = select(query[m][n], four, m == r);
          }
        }
      }
      for (var i = 0u; i < keys; i++) {
        let begin = keyAt(t.s, t.k0, j + i);
        var score: array<f32, MINE>;
        // @unroll
        for (var r = 0u; r < MINE; r++) {
          score[r] = select(0.0, weight[i * MINE + r], c > 0u);
        }
        // @unroll
        for (var n = 0u; n < ASKED; n++) {
          let key = keyQuad(begin, min(c + n, Q4 - 1u));
          // @unroll
          for (var r = 0u; r < MINE; r++) {
            score[r] += dot(query[r][n], key);
          }
        }
        // @unroll
        for (var r = 0u; r < MINE; r++) {
          weight[i * MINE + r] = score[r];
        }
      }
    }
    for (var r = 0u; r < MINE + zero; r++) {
      let before = largest[r];
      let place = t.place + i32(row + r);
      let added = queryAt(t, row + r).bias;
      var most = before;
      for (var i = 0u; i < keys; i++) {
        let score = scoreOf(weight[i * MINE + r], place, j + i, end, slope, added);
        weight[i * MINE + r] = score;
        most = max(most, score);
      }
      let less = exp(before - most);
      var all = total[r] * less;
      for (var i = 0u; i < keys; i++) {
        let score = weight[i * MINE + r];
        let share = select(0.0, exp(score - most), score > HIDDEN);
        weight[i * MINE + r] = share;
        all += share;
      }
      largest[r] = most;
      total[r] = all;
      shrink[r] = less;
    }
    for (var c = 0u; c < QUADS + zero; c += HELD) {
      var part = array<array<vec4<f32>, HELD>, MINE>(); // naga zeroes a var without a value only once
      for (var r = 0u; r < min(MINE, t.tokens - row) && j > first; r++) {
        let less = shrink[r];
        let to = oAt(t.s, t.s.start + t.first + row + r, head, DV);
        for (var n = 0u; n < HELD + zero; n++) {
          let four = sumQuad(to, c + n) * less;
          // @unroll
          for (var m = 0u; m < MINE; m++) {
            // @unroll
            for (var d = 0u; d < HELD; d++) {
              part[m][d] = select(part[m][d], four, m == r && d == n);
            }
          }
        }
      }
      for (var i = 0u; i < keys; i++) {
        let begin = valueAt(t.s, t.v0, j + i);
        var share: array<f32, MINE>;
        // @unroll
        for (var r = 0u; r < MINE; r++) {
          share[r] = weight[i * MINE + r];
        }
        // @unroll
        for (var n = 0u; n < HELD; n++) {
          let value = valueQuad(begin, min(c + n, QUADS - 1u));
          // @unroll
          for (var r = 0u; r < MINE; r++) {
            part[r][n] += value * share[r];
          }
        }
      }
      for (var r = 0u; r < min(MINE, t.tokens - row); r++) {
        let to = oAt(t.s, t.s.start + t.first + row + r, head, DV);
        let share = select(1.0, 1.0 / max(total[r], 1e-30), j + keys == end); // a sum of weights is 0, or not below 1e-30
        for (var n = 0u; n < HELD + zero; n++) {
          var four = vec4<f32>();
          // @unroll
          for (var m = 0u; m < MINE; m++) {
            // @unroll
            for (var d = 0u; d < HELD; d++) {
              four = select(four, part[m][d], m == r && d == n);
            }
          }
          storeQuad(to, c + n, four * share);
        }
      }
    }
  }
  for (var r = 0u; r < min(MINE, t.tokens - row) && first == end; r++) { // who sees no key gives zeros
    for (var c = 0u; c < QUADS + zero; c++) {
      storeQuad(oAt(t.s, t.s.start + t.first + row + r, head, DV), c, vec4<f32>());
    }
  }
}
