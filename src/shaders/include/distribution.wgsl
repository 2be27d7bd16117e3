// distribution: what warpers know of a row of logits [B, n] as u32 bits; NaN and -1e30, which stands for -infinity, are
// no tokens. The shader declares WG and `logits`, and includes reduce.wgsl.
const LOWEST: f32 = -3.4028234663852886e38;

struct Distribution {
  top: f32, // the largest logit
  shift: f32, // log of the sum of exp(logit)
  entropy: f32,
}

fn isToken(bits: u32) -> bool {
  return bits < 0x7f800001u || (bits >= 0x80000000u && bits < 0xf149f2cau);
}

// a logit, +infinity as a large number
fn valueOf(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0x7f7ffffeu, bits == 0x7f800000u));
}

fn distributionOf(first: u32, n: u32, thread: u32) -> Distribution {
  var top = LOWEST;
  for (var i = thread; i < n; i += WG) {
    let bits = logits[first + i];
    top = max(top, select(LOWEST, valueOf(bits), isToken(bits)));
  }
  top = workgroupMax(top, thread);
  var sum = 0.0;
  var moment = 0.0;
  for (var i = thread; i < n; i += WG) {
    let bits = logits[first + i];
    let d = max(select(LOWEST, valueOf(bits), isToken(bits)) - top, -200.0);
    let weight = select(0.0, exp(d), isToken(bits));
    sum += weight;
    moment += weight * d;
  }
  sum = max(workgroupSum(sum, thread), 1e-30);
  moment = workgroupSum(moment, thread);
  return Distribution(top, top + log(sum), log(sum) - moment / sum);
}
