// @header
// attention_subgroup: what attention.wgsl computes, by subgroups of LANES threads
//
// grid     [key splits, tiles of tokens, tiles of heads]: a workgroup is one subgroup and holds a tile of ROWS queries
// lanes    are keys in q . k, and fours of elements in the sum of values; what all need is shuffled, so that no
//          workgroup memory and no barrier is wanted; with FRESH on a GPU one is (BARRIER), a CPU's lanes run in step
// traffic  a tile reads its keys and values once for ROWS queries; nothing of size T x keys is ever stored
// papers   https://arxiv.org/abs/2205.14135, https://arxiv.org/abs/2307.08691
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
const ROWS: u32 = 8; // @const
const PACK: u32 = 1; // @const
const KEYS: u32 = 2; // @const
const LANES: u32 = 8; // @const
const HALVINGS: u32 = 3; // @const
const SPAN: u32 = 8; // @const
const HELD: u32 = 2; // @const
const ASKED: u32 = 2; // @const
// @one-of F32 F16 BF16
// @one-of SUBGROUPS
// @optional BY_4 BIAS CAP SPLIT MAPPED FRESH ROPE BARRIER
// @never FRESH !BY_4
// @never FRESH BIAS
// @never FRESH BF16
// @never ROPE !FRESH
// @never BARRIER !FRESH
// @include "floats.wgsl"
// @include "attention_tile.wgsl"
// @include "lanes.wgsl"

const Q4: u32 = (DH + 3) / 4;
const SHARES: u32 = (ROWS + LANES - 1) / LANES; // of the rows, a lane each

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let t = tileAt(group, groups);
  if (t.tokens == 0u) {
    return;
  }
  // @if FRESH
  let angles = anglesOf(t);
  let newest = newestOf(t);
  keepValue(t, newest, lane);
  // @end
  let end = t.keys.y;
  var largest: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  var slope: array<f32, ROWS>;
  var added: array<u32, ROWS>;
  var sum: array<array<vec4<f32>, HELD>, ROWS>;
  var asked: array<array<vec4<f32>, ASKED>, ROWS>; // of each query, a lane every LANES-th four of elements
  let keyStride = geometry[K_STRIDES + 2u];
  let valueStride = geometry[V_STRIDES + 2u];
  // @if MAPPED
  let pageOfKeys = geometry[K_STRIDES];
  let pageOfValues = geometry[V_STRIDES];
  let pages = pagesOf(t.s);
  // @end
  let zero = geometry[ZERO]; // not known to compilers, which would unroll loops whose bodies are dear to compile
  // @if FRESH
  let heads = ROWS + 1u + zero; // the key is turned as a query is, by the same code
  // @else
  let heads = ROWS + zero;
  // @end
  for (var row = 0u; row < heads; row++) {
    let query = queryAt(t, row);
    let bend = slopeOf(query.head);
    let sink = select(NEG, sinkOf(query.head), group.x == 0u);
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      largest[r] = select(largest[r], sink, r == row);
      slope[r] = select(slope[r], bend, r == row);
      added[r] = select(added[r], query.bias, r == row);
    }
    for (var m = 0u; m < ASKED + zero; m++) {
      let quad = min(m * LANES + lane, Q4 - 1u);
      // @if FRESH
      let four = turnedQuad(select(query.q, newest.source, row == ROWS), quad, angles);
      if (row == ROWS && newest.isHere) {
        k[newest.to + quad] = kept(four);
      }
      // @else
      let four = queryQuad(query.q, quad);
      // @end
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        // @unroll
        for (var n = 0u; n < ASKED; n++) {
          asked[r][n] = select(asked[r][n], four, r == row && n == m);
        }
      }
    }
  }
  // @if BARRIER
  storageBarrier();
  // @end
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    total[r] = select(0.0, 1.0, lane == 0u && largest[r] > NEG);
  }
  var last = t.keys.x;
  for (var j = last; j < end; j = last) {
    // @if MAPPED
    let page = runFrom(pages, j); // a step lies within a page
    last = min(end, j + min(LANES * KEYS, page.z));
    let k1 = t.k0 + page.x * pageOfKeys + page.y * keyStride;
    let v1 = t.v0 + page.x * pageOfValues + page.y * valueStride;
    // @else
    last = min(end, j + LANES * KEYS);
    let k1 = t.k0 + j * keyStride;
    let v1 = t.v0 + j * valueStride;
    // @end
    var score = array<array<f32, KEYS>, ROWS>(); // then the weights; naga zeroes a var without a value only once
    var at: array<u32, KEYS>;
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      at[i] = k1 + (min(j + i * LANES + lane, last - 1u) - j) * keyStride;
    }
    for (var m = 0u; m < ASKED + zero; m++) {
      var query: array<vec4<f32>, ROWS>;
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        query[r] = asked[r][0];
        // @unroll
        for (var n = 0u; n < ASKED; n++) {
          query[r] = select(query[r], asked[r][n], n == m);
        }
      }
      for (var c = m * LANES; c < min((m + 1u) * LANES, Q4); c++) {
        var key: array<vec4<f32>, KEYS>;
        // @unroll
        for (var i = 0u; i < KEYS; i++) {
          key[i] = keyQuad(at[i], c);
        }
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          let four = subgroupShuffle(query[r], c - m * LANES);
          // @unroll
          for (var i = 0u; i < KEYS; i++) {
            score[r][i] += dot(key[i], four);
          }
        }
      }
    }
    var shrinks: array<f32, SHARES>; // by a row's lane: one exp for as many rows as there are lanes
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let place = t.place + i32(r / PACK);
      var most = largest[r];
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        score[r][i] = scoreOf(score[r][i], place, j + i * LANES + lane, last, slope[r], added[r]);
        most = max(most, score[r][i]);
      }
      most = greatestOfLanes(most);
      shrinks[r / LANES] = select(shrinks[r / LANES], largest[r] - most, lane == r % LANES);
      largest[r] = most;
    }
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let shrink = subgroupShuffle(exp(shrinks[r / LANES]), r % LANES);
      total[r] *= shrink;
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        score[r][i] = select(0.0, exp(score[r][i] - largest[r]), score[r][i] > HIDDEN);
        total[r] += score[r][i];
      }
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        sum[r][n] *= shrink;
      }
    }
    for (var i = 0u; i < KEYS + zero; i++) {
      var weight: array<f32, ROWS>;
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        // @unroll
        for (var n = 0u; n < KEYS; n++) {
          weight[r] = select(weight[r], score[r][n], n == i);
        }
      }
      let first = j + i * LANES;
      for (var turn = 0u; turn < LANES && first + turn < last; turn += PARTS) {
        let key = turn + lane / SPAN;
        let v2 = v1 + (min(first + key, last - 1u) - j) * valueStride;
        var value: array<vec4<f32>, HELD>;
        // @unroll
        for (var n = 0u; n < HELD; n++) {
          value[n] = valueQuad(v2, min(lane % SPAN + n * SPAN, QUADS - 1u));
        }
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          let one = subgroupShuffle(weight[r], key);
          // @unroll
          for (var n = 0u; n < HELD; n++) {
            sum[r][n] += value[n] * one;
          }
        }
      }
    }
  }
  for (var row = 0u; row < ROWS + zero; row++) {
    var value: array<vec4<f32>, HELD>;
    var most = NEG;
    var all = 0.0;
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      most = select(most, largest[r], r == row);
      all = select(all, total[r], r == row);
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        value[n] = select(value[n], sum[r][n], r == row);
      }
    }
    all = subgroupAdd(all);
    for (var step = SPAN; step < LANES; step *= 2u) {
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        value[n] += subgroupShuffleXor(value[n], step);
      }
    }
    storeRow(t, row, group, groups, lane, value, most, all);
  }
}
