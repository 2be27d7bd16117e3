// synthid_logits: y[r] = log p after a tournament a key: p_t *= 1 + g_t - sum_j g_j p_j, where bit g_t is a hash of the
// key, the last tokens of the row and t; p starts as softmax(logits[r])
//
// logits   [B, n] f32 as bits; NaN counts as -infinity      width: n elements, bound for their number      y [B, n] f32
// ids      [B, N] u32, of which row r has lengths[r]        step [1] u32
// settings u32: tokens of an n-gram, how many earlier contexts are looked at, 1 to leave the first n-grams alone, 1 for
//          equal p at the start, seed (2 words), keys (2 words each)
// grid     [B]: one workgroup a row, each thread strides n by WG; rows that are too short, and those whose context was
//          there before, stay as they are
// traffic  read logits three times, then y and a hash a token twice for each key: arithmetic-bound
// paper    https://www.nature.com/articles/s41586-024-08025-4
const WG: u32 = 64; // @const 64 8 256
// @include "distribution.wgsl"
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "random.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> width: array<u32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
@group(0) @binding(4) var<storage, read> step: array<u32>;
@group(0) @binding(5) var<storage, read> settings: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

const KEYS: u32 = 6u;

var<workgroup> seen: atomic<u32>;

// whether the row is marked at this step: it is long enough, and its context is new
fn isMarked(row: u32, past: u32, thread: u32) -> bool {
  let context = settings[0] - 1u;
  if (thread == 0u) {
    atomicStore(&seen, u32(past < context || (settings[2] == 1u && step[0] + 1u < settings[0])));
  }
  workgroupBarrier();
  let first = row * (arrayLength(&ids) / arrayLength(&lengths));
  let back = min(min(step[0], settings[1]), max(past, context) - context);
  for (var i = thread; i < back; i += WG) {
    var same = true;
    for (var j = 1u; same && j <= context; j++) {
      same = ids[first + past - j] == ids[first + past - 1u - i - j];
    }
    if (same) {
      atomicStore(&seen, 1u);
    }
  }
  workgroupBarrier();
  return atomicLoad(&seen) == 0u;
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&width);
  let row = flatGroup(group, groups);
  let rows = arrayLength(&lengths);
  if (row >= rows) {
    return;
  }
  let N = arrayLength(&ids) / rows;
  let past = min(lengths[row], N);
  let marked = isMarked(row, past, thread);
  var hash = pcg4d(vec4<u32>(settings[4], settings[5], settings[0], 0u));
  for (var j = settings[0] - 1u; marked && j > 0u; j--) {
    hash = pcg4d(vec4<u32>(hash.x ^ ids[row * N + past - j], hash.yzw));
  }
  let d = distributionOf(row * n, n, thread);
  for (var i = thread; i < n; i += WG) {
    let bits = logits[row * n + i];
    let p = select(exp(valueOf(bits) - d.shift), 1.0 / f32(n), settings[3] == 1u);
    y[row * n + i] = select(bitcast<f32>(bits), select(0.0, p, isToken(bits)), marked);
  }
  let depth = select(0u, (arrayLength(&settings) - KEYS) / 2u, marked);
  for (var k = 0u; k < (arrayLength(&settings) - KEYS) / 2u; k++) {
    let key = pcg4d(vec4<u32>(hash.x ^ settings[KEYS + 2u * k], hash.y ^ settings[KEYS + 2u * k + 1u], hash.zw));
    var mass = 0.0;
    for (var i = thread; i < n && k < depth; i += WG) {
      mass += select(0.0, y[row * n + i], pcg4d(vec4<u32>(key.x ^ i, key.yzw)).x >= 0x80000000u);
    }
    mass = workgroupSum(mass, thread);
    for (var i = thread; i < n && k < depth; i += WG) {
      let g = select(0.0, 1.0, pcg4d(vec4<u32>(key.x ^ i, key.yzw)).x >= 0x80000000u);
      y[row * n + i] *= 1.0 + g - mass;
    }
  }
  for (var i = thread; i < n && marked; i += WG) {
    let p = y[row * n + i];
    y[row * n + i] = select(NEG, log(p), p > 0.0);
  }
}
