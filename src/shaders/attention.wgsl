// attention: o[t,h] = softmax_j(score(q[t,h] . k[j,g])) v[j,g], g = h * Hkv / H, over the keys j that token t may see
//
// q, o     [T, H, DH] and [T, H, DV] f32      k, v  f32, or 16 bits two in a u32, laid out as include/kv.wgsl says
// grid     [key splits, tiles of tokens, tiles of heads]: a workgroup of LANES threads holds a tile of ROWS queries
// threads  are keys in q . k, then rows in the softmax, then fours of elements in the sum of values; what all need lies
//          in workgroup memory
// traffic  a tile reads its keys and values once for ROWS queries; nothing of size T x keys is ever stored
// papers   https://arxiv.org/abs/1805.02867, https://arxiv.org/abs/2205.14135
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
const ROWS: u32 = 8; // @const
const PACK: u32 = 1; // @const
const KEYS: u32 = 2; // @const
const LANES: u32 = 8; // @const
const SPAN: u32 = 8; // @const
const HELD: u32 = 2; // @const
// @one-of F32 F16 BF16
// @optional BY_4 BIAS CAP SPLIT MAPPED FRESH ROPE
// @never FRESH !BY_4
// @never FRESH BIAS
// @never FRESH BF16
// @never ROPE !FRESH
// @include "floats.wgsl"
// @include "attention_tile.wgsl"

const Q4: u32 = (DH + 3) / 4;
const WIDTH: u32 = LANES * KEYS; // keys of a step
const SHARES: u32 = LANES / ROWS; // threads that a row has in the softmax
var<workgroup> queries: array<vec4<f32>, ROWS * Q4>;
var<workgroup> scores: array<f32, ROWS * WIDTH>; // then the weights
var<workgroup> tops: array<f32, LANES>; // of each thread's scores
var<workgroup> shrinks: array<f32, ROWS>;
var<workgroup> totals: array<f32, LANES>;
var<workgroup> values: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let t = tileAt(group, groups);
  if (t.tokens == 0u) {
    return;
  }
  // @if FRESH
  let angles = anglesOf(t);
  let newest = newestOf(t);
  keepValue(t, newest, lane);
  for (var n = lane; n < Q4 && newest.isHere; n += LANES) {
    k[newest.to + n] = kept(turnedQuad(newest.source, n, angles));
  }
  storageBarrier();
  // @end
  let end = t.keys.y;
  let row = lane % ROWS; // in the softmax
  let share = lane / ROWS;
  let mine = queryAt(t, row);
  let place = t.place + i32(row / PACK);
  let slope = slopeOf(mine.head);
  var largest = select(NEG, sinkOf(mine.head), group.x == 0u);
  var total = select(0.0, 1.0, share == 0u && largest > NEG);
  var sum: array<array<vec4<f32>, HELD>, ROWS>;
  for (var c = share; c < Q4; c += SHARES) {
    // @if FRESH
    queries[row * Q4 + c] = turnedQuad(mine.q, c, angles);
    // @else
    queries[row * Q4 + c] = queryQuad(mine.q, c);
    // @end
  }
  let zero = geometry[ZERO]; // not known to compilers, which would unroll loops whose bodies are dear to compile
  for (var j = t.keys.x; j < end; j += WIDTH) {
    var product = array<array<f32, KEYS>, ROWS>();
    var at: array<u32, KEYS>;
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      at[i] = keyAt(t.s, t.k0, min(j + i * LANES + lane, end - 1u));
    }
    workgroupBarrier(); // the queries are there; the weights of the step before have been read
    for (var c = 0u; c < Q4 + zero; c++) {
      var key: array<vec4<f32>, KEYS>;
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        key[i] = keyQuad(at[i], c);
      }
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        let query = queries[r * Q4 + c];
        // @unroll
        for (var i = 0u; i < KEYS; i++) {
          product[r][i] += dot(key[i], query);
        }
      }
    }
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        scores[r * WIDTH + i * LANES + lane] = product[r][i];
      }
    }
    workgroupBarrier();
    var most = largest;
    for (var i = share; i < WIDTH; i += SHARES) {
      let x = scoreOf(scores[row * WIDTH + i], place, j + i, end, slope, mine.bias);
      scores[row * WIDTH + i] = x;
      most = max(most, x);
    }
    if (SHARES > 1u) {
      tops[lane] = most;
      workgroupBarrier();
      for (var i = 0u; i < SHARES; i++) {
        most = max(most, tops[i * ROWS + row]);
      }
    }
    let shrink = exp(largest - most);
    largest = most;
    shrinks[row] = shrink;
    total *= shrink;
    for (var i = share; i < WIDTH; i += SHARES) {
      let x = scores[row * WIDTH + i];
      let weight = select(0.0, exp(x - most), x > HIDDEN);
      scores[row * WIDTH + i] = weight;
      total += weight;
    }
    workgroupBarrier();
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let less = shrinks[r];
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        sum[r][n] *= less;
      }
    }
    for (var turn = lane / SPAN; turn < min(WIDTH, end - j); turn += PARTS) {
      let v1 = valueAt(t.s, t.v0, j + turn);
      var value: array<vec4<f32>, HELD>;
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        value[n] = valueQuad(v1, min(lane % SPAN + n * SPAN, QUADS - 1u));
      }
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        let weight = scores[r * WIDTH + turn];
        // @unroll
        for (var n = 0u; n < HELD; n++) {
          sum[r][n] += value[n] * weight;
        }
      }
    }
  }
  tops[lane] = largest;
  totals[lane] = total;
  workgroupBarrier();
  for (var at = 0u; at < ROWS + zero; at++) {
    var value: array<vec4<f32>, HELD>;
    for (var n = 0u; n < HELD + zero; n++) {
      var whole = vec4<f32>();
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        // @unroll
        for (var m = 0u; m < HELD; m++) {
          whole = select(whole, sum[r][m], r == at && m == n);
        }
      }
      if (PARTS > 1u) {
        workgroupBarrier();
        values[lane] = whole;
        workgroupBarrier();
        whole = values[lane % SPAN];
        for (var part = 1u; part < PARTS; part++) {
          whole += values[part * SPAN + lane % SPAN];
        }
      }
      // @unroll
      for (var m = 0u; m < HELD; m++) {
        value[m] = select(value[m], whole, m == n);
      }
    }
    var all = 0.0;
    for (var i = 0u; i < SHARES; i++) {
      all += totals[i * ROWS + at];
    }
    storeRow(t, at, group, groups, lane, value, tops[at], all);
  }
}
