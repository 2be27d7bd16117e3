// accept_drawn: chosen[i] = the i-th drafted token with probability min(1, p / q), else a draw from what p has beyond q; so
// it is distributed as p. The row after the last that counts has no draft and is a draw from p.
//
// p, q     [k + 1, n] and [at least k, n] f32: scores of the model and of the draft; -1e30 and below are never drawn
// window   [k + 1 or more] u32: drafts from 1 on      steps [k + 1 or more] u32: tokens drawn before each
// params   [1, 8] u32 (sampling.wgsl), of which the seed is used       chosen [k + 1] u32
// state    as accept_drafts has it: how many drafts count
// grid     [k + 1]: one workgroup a row, each thread strides n by WG
// paper    https://arxiv.org/abs/2211.17192
const WG: u32 = 64; // @const 64 8 256
// @include "grid.wgsl"
// @include "random.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> window: array<u32>;
@group(0) @binding(3) var<storage, read> steps: array<u32>;
@group(0) @binding(4) var<storage, read> params: array<u32>;
@group(0) @binding(5) var<storage, read> state: array<u32>;
@group(0) @binding(6) var<storage, read_write> chosen: array<u32>;

const SEED: u32 = 4u;
const NEG: f32 = -1e30;
const NONE: u32 = 0xffffffffu;
const TRY: u32 = 0x10000u; // what the numbers of a step are for
const DRAW: u32 = 0x20000u;

var<workgroup> places: array<u32, WG>;

// exp(x - most) / sum, 0 for what is never drawn
fn chance(x: f32, norm: vec2<f32>) -> f32 {
  return select(0.0, exp(x - norm.x) / norm.y, x > NEG);
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&chosen);
  let n = arrayLength(&p) / rows;
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  let first = row * n;
  let hasDraft = row < min(rows - 1u, state[2]);
  let start = select(0u, first, hasDraft); // where its row of q begins
  var most = vec2<f32>(NEG);
  for (var i = thread; i < n; i += WG) {
    most = max(most, vec2<f32>(p[first + i], q[start + i]));
  }
  most = vec2<f32>(workgroupMax(most.x, thread), workgroupMax(most.y, thread));
  var sum = vec2<f32>();
  for (var i = thread; i < n; i += WG) {
    let x = vec2<f32>(p[first + i], q[start + i]);
    sum += select(vec2<f32>(), exp(x - most), x > vec2<f32>(NEG));
  }
  sum = vec2<f32>(workgroupSum(sum.x, thread), workgroupSum(sum.y, thread));
  let norms = array<vec2<f32>, 2>(vec2<f32>(most.x, sum.x), vec2<f32>(most.y, sum.y));
  let draft = min(window[min(row + 1u, arrayLength(&window) - 1u)], n - 1u);
  let seed = vec2<u32>(params[SEED], params[SEED + 1u]);
  let u = (f32(pcg4d(vec4<u32>(seed, steps[row], TRY)).x) + 0.5) / 4294967296.0;
  let accepted = hasDraft && u * chance(q[start + draft], norms[1]) < chance(p[first + draft], norms[0]);

  let key = pcg4d(vec4<u32>(seed, steps[row], DRAW));
  var best = vec2<f32>(NEG); // beyond q, and of p where rounding leaves nothing beyond q
  var place = vec2<u32>(NONE);
  for (var i = thread; i < n; i += WG) {
    let mine = chance(p[first + i], norms[0]);
    let rest = select(mine, mine - chance(q[start + i], norms[1]), hasDraft);
    let noise = gumbel(pcg4d(vec4<u32>(key.x ^ i, key.yzw)).x);
    let weight = vec2<f32>(rest, mine);
    let score = select(vec2<f32>(NEG), log(max(weight, vec2<f32>(1e-37))) + noise, weight > vec2<f32>());
    place = select(place, vec2<u32>(i), score > best);
    best = max(best, score);
  }
  let top = vec2<f32>(workgroupMax(best.x, thread), workgroupMax(best.y, thread));
  let useRest = top.x > NEG;
  let mineBest = select(best.y == top.y, best.x == top.x, useRest);
  places[thread] = select(NONE, select(place.y, place.x, useRest), mineBest);
  workgroupBarrier();
  if (thread == 0u) {
    var token = NONE;
    for (var i = 0u; i < WG; i++) {
      token = min(token, places[i]);
    }
    chosen[row] = select(token, draft, accepted);
  }
}
