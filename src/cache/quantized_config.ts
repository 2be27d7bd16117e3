/**
 * How a cache quantizes: what can be asked for, and what the kernels are told.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { GroupMode, KvScheme } from "../ops/kv_quantization.ts";

/** How a {@linkcode QuantizedCache} quantizes; names and defaults are those of Transformers' `QuantizedCacheConfig`. */
export interface QuantizedCacheConfig {
  /** The formula. Default "quanto". */
  backend?: "quanto" | "hqq";
  /** Bits of a code: 2, 4 or 8 (HQQ also 1 and 3). Default 4. */
  nbits?: number;
  /** 0: groups lie within a token (quanto), or across tokens (HQQ); -1 (quanto) across, 1 (HQQ) within. Default 0 or 1. */
  axisKey?: number;
  /** The same for values. */
  axisValue?: number;
  /** Elements that share a scale, a multiple of 4. Default 64. */
  qGroupSize?: number;
  /** Tokens that are kept as they are before all is quantized anew. Default 128. */
  residualLength?: number;
  /** What scales are stored in. Default "float16". */
  computeDtype?: "float16" | "float32";
}

const BITS = { quanto: [2, 4, 8], hqq: [1, 2, 3, 4, 8] } as const;
const AXES = { quanto: [0, -1], hqq: [0, 1] } as const;
const NAMES = { quanto: "quanto", hqq: "HQQ" } as const;

/** What the kernels are told of a config. */
export function schemeOf(c: Required<QuantizedCacheConfig>): KvScheme {
  const mode = (axis: number): GroupMode => {
    if (c.backend === "quanto") return axis === 0 ? "consecutive" : "channel";
    return axis === 1 ? "consecutive" : "strided";
  };
  const { backend, nbits: bits, qGroupSize: group } = c;
  return { backend, bits, group, keys: mode(c.axisKey), values: mode(c.axisValue), wide: c.computeDtype === "float32" };
}

/**
 * The config with its defaults.
 *
 * @throws {ValueError} if it is not possible
 */
export function quantizedConfig(given: QuantizedCacheConfig): Required<QuantizedCacheConfig> {
  const backend = given.backend ?? "quanto", axis = backend === "hqq" ? 1 : 0;
  const config = {
    backend,
    nbits: 4,
    axisKey: axis,
    axisValue: axis,
    qGroupSize: 64,
    residualLength: 128,
    computeDtype: "float16" as const,
    ...given,
  };
  const whole = (value: unknown, least: number) => Number.isSafeInteger(value) && value as number >= least;
  const rules: [string, unknown, boolean, string][] = [
    ["nbits", config.nbits, [1, 2, 3, 4, 8].includes(config.nbits), "1, 2, 3, 4 or 8"],
    ["qGroupSize", config.qGroupSize, whole(config.qGroupSize, 4) && config.qGroupSize % 4 === 0, "a multiple of 4"],
    ["residualLength", config.residualLength, whole(config.residualLength, 0), "a whole number from 0"],
    ["axisKey", config.axisKey, [0, 1, -1].includes(config.axisKey), "0, 1 or -1"],
    ["axisValue", config.axisValue, [0, 1, -1].includes(config.axisValue), "0, 1 or -1"],
    ["computeDtype", config.computeDtype, ["float16", "float32"].includes(config.computeDtype), "float16 or float32"],
  ];
  const wrong = rules.find(([, , holds]) => !holds);
  if (wrong) {
    throw new ValueError(
      `Some of the keys in \`cacheConfig\` are defined incorrectly. \`${wrong[0]}\` should be ${wrong[3]} but found ${
        wrong[1]
      }`,
    );
  }
  const name = NAMES[backend as keyof typeof NAMES];
  if (!Object.hasOwn(NAMES, backend)) throw new ValueError(`Unknown quantization backend \`${backend}\``);
  const limits: [string, number, readonly number[]][] = [
    ["nbits", config.nbits, BITS[backend]],
    ["axisKey", config.axisKey, AXES[backend]],
    ["axisValue", config.axisValue, AXES[backend]],
  ];
  for (const [key, value, allowed] of limits) {
    if (allowed.includes(value)) continue;
    throw new ValueError(
      `\`${key}\` for \`${name}\` backend has to be one of [${
        allowed.map((n) => `\`${n}\``).join(", ")
      }] but got ${value}`,
    );
  }
  return config;
}
