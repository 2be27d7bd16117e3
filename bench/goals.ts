/**
 * The figures to reach on a machine with lavapipe and two cores, and the gate: a figure under half of its goal fails.
 */
import type { ModelResult } from "./model_bench.ts";
import type { QuantizedResult } from "./quantized_bench.ts";
import type { OpResult, Report } from "./report.ts";

/** A figure beside its goal. */
export interface Reached {
  work: string;
  goal: number;
  /** Undefined where it was not measured. */
  value?: number;
  unit: string;
  /** How far the goal is reached: 1 is all of it, whichever direction is better. */
  share?: number;
}

/** The share of a goal under which the gate fails. */
export const LEAST_SHARE = 0.5;

interface Goal {
  work: string;
  unit: string;
  goal: number | ((report: Report) => number | undefined);
  /** The figure that counts is the worst of these. */
  values: (report: Report) => (number | undefined)[];
  /** Whether less is better. */
  less?: true;
}

const QUANTIZED: readonly Goal[] = [
  {
    work: "bench-120m, decode in 4 bits (q4_0), of the rate in 16",
    unit: "×",
    goal: 1.3,
    values: (r) => quantized(r, /^q4_0$/, (form, plain) => plain.tokenCpu / form.tokenCpu),
  },
  {
    work: "bench-120m quantized, bytes of the weights, of the scheme's own",
    unit: "×",
    goal: 1.03,
    values: (r) => quantized(r, /./, ({ overTheory }) => overTheory),
    less: true,
  },
  {
    work: "bench-120m, quantized while it is loaded, of a plain load",
    unit: "×",
    goal: 2,
    values: (r) => quantized(r, /^(nf4|int8)$/, (form, plain) => form.loadCpu / plain.loadCpu),
    less: true,
  },
];

const LAVAPIPE: readonly Goal[] = [
  {
    work: "GEMM f32 and f16, 512 and 1024, with subgroups",
    unit: "GFLOP/s a core",
    goal: 16,
    values: (r) => gemms(r, false),
  },
  { work: "GEMM f32 and f16, 512 and 1024, without", unit: "GFLOP/s a core", goal: 7, values: (r) => gemms(r, true) },
  {
    work: "GEMV f16 4096²",
    unit: "GB/s a core",
    goal: 4.5,
    values: (r) => bytes(r, "matmul f16", "[1, 4096] x [4096, 4096]"),
  },
  {
    work: "RMS norm, layer norm and softmax 1024 × 2048",
    unit: "GB/s a core",
    goal: 3,
    values: (r) => ["rms_norm", "layer_norm", "softmax"].flatMap((name) => bytes(r, name, "[1024, 2048]")),
  },
  ...([["q4", 8], ["int8", 5], ["nf4", 3]] as const).map(([scheme, goal]): Goal => ({
    work: `GEMV ${scheme} 4096²`,
    unit: "GFLOP/s a core",
    goal,
    values: (r) => flops(r, `quantized_matmul ${scheme}`, "[1, 4096] x [4096, 4096]"),
  })),
  ...QUANTIZED,
  {
    work: "attention, prompt of 512, heads of 64, with subgroups",
    unit: "GFLOP/s a core",
    goal: 9,
    values: (r) => flops(r, "attention prefill", "512 after 0, 16/16 × 64"),
  },
  {
    work: "attention, prompt of 512, heads of 64, without",
    unit: "GFLOP/s a core",
    goal: 4,
    values: (r) => flops(r, "attention prefill", "512 after 0, 16/16 × 64", true),
  },
  ...["tensaur-tiny", "bench-30m"].flatMap((name): Goal[] => {
    const of = (get: (model: ModelResult) => number | undefined) => (r: Report) => {
      const model = r.models.find(({ model }) => model === name);
      return model && get(model);
    };
    return [
      {
        work: `host, a replayed step of ${name}`,
        unit: "µs",
        goal: of(({ dispatchesPerToken }) => 150 + 3 * dispatchesPerToken),
        values: (r) => [of(({ hostPerToken }) => hostPerToken)(r)],
        less: true,
      },
      {
        work: `decode of ${name}: the kernels' part of its time`,
        unit: "%",
        goal: 80,
        values: (r) => [of(kernelShare)(r)],
      },
    ];
  }),
  {
    work: "first token of tensaur-tiny, warm",
    unit: "ms",
    goal: 1000,
    values: (r) => [first(r, "tensaur-tiny")?.warm],
    less: true,
  },
  {
    work: "MiniLM-L6, a sentence of 128 tokens",
    unit: "ms",
    goal: 350,
    values: (r) => [r.encoders[0]?.sentence],
    less: true,
  },
  { work: "bench-30m f16, decode", unit: "tok/s", goal: 60, values: (r) => [model(r)?.decode] },
  { work: "bench-30m f16, prompt of 256", unit: "tok/s", goal: 250, values: (r) => [model(r)?.prefill] },
  { work: "first token of bench-30m, cold", unit: "ms", goal: 4000, values: (r) => [first(r)?.cold], less: true },
  { work: "first token of bench-30m, warm", unit: "ms", goal: 1500, values: (r) => [first(r)?.warm], less: true },
  {
    work: "load, of a plain read of the file",
    unit: "%",
    goal: 60,
    values: (r) => [r.load && 100 * r.load.load / r.load.read],
  },
];

const GPU: readonly Goal[] = [
  {
    work: "GEMV f16 4096², of the device's copy rate",
    unit: "%",
    goal: 40,
    values: (r) => shares(r, "matmul f16", "[1, 4096] x [4096, 4096]"),
  },
  {
    work: "GEMV q4 4096², of the device's copy rate",
    unit: "%",
    goal: 40,
    values: (r) => shares(r, "quantized_matmul q4", "[1, 4096] x [4096, 4096]"),
  },
  ...QUANTIZED,
  {
    work: "GEMM f16 4096³",
    unit: "TFLOP/s",
    goal: ({ origin }) => origin.provider === "dawn" ? 60 : 15, // by subgroup matrices
    values: (r) => flops(r, "matmul f16", "[4096, 4096] x [4096, 4096]").map((rate) => rate && rate / 1000),
  },
  {
    work: "decode of a random 1B model, f16",
    unit: "tok/s",
    goal: 180,
    values: (r) => [model(r, "random-1b")?.decode],
  },
];

function ops({ ops }: Report, name: string, shape: string, plain = false): OpResult[] {
  return ops.filter((op) => op.name === name && op.shape === shape && (op.plain ?? false) === plain);
}

function flops(report: Report, name: string, shape: string, plain = false): (number | undefined)[] {
  return ops(report, name, shape, plain).map(({ gigaflopsPerSecond }) => gigaflopsPerSecond);
}

function bytes(report: Report, name: string, shape: string): number[] {
  return ops(report, name, shape).map(({ gigabytesPerSecond }) => gigabytesPerSecond);
}

function shares(report: Report, name: string, shape: string): number[] {
  return ops(report, name, shape).map(({ gigabytesPerSecond, ceilings }) => 100 * gigabytesPerSecond / ceilings.copy);
}

/** A figure of each form whose name fits, beside the model in 16 bits. */
function quantized(
  { quantized: [plain, ...forms] = [] }: Report,
  names: RegExp,
  figure: (form: QuantizedResult, plain: QuantizedResult) => number,
): number[] {
  return forms.filter(({ form }) => names.test(form)).map((form) => figure(form, plain!));
}

function gemms(report: Report, plain: boolean): (number | undefined)[] {
  return [512, 1024].flatMap((n) =>
    ["f32", "f16"].flatMap((dtype) => flops(report, `matmul ${dtype}`, `[${n}, ${n}] x [${n}, ${n}]`, plain))
  );
}

const model = ({ models }: Report, name = "bench-30m") => models.find(({ model }) => model === name);
const first = ({ firstTokens }: Report, name = "bench-30m") => firstTokens.find(({ model }) => model === name);

/** The kernels' own time as a part of the whole, in percent; what is left is the host's. */
export function kernelShare({ kernelMilliseconds, decode }: ModelResult): number | undefined {
  return kernelMilliseconds === undefined ? undefined : Math.min(100, kernelMilliseconds * decode / 10);
}

/** Every goal with what `report` reached. */
export function reached(report: Report): Reached[] {
  return (report.origin.isCpu ? LAVAPIPE : GPU).map(({ work, unit, goal: wanted, values, less }) => {
    const goal = typeof wanted === "number" ? wanted : wanted(report) ?? NaN;
    const found = values(report).filter((value) => value !== undefined);
    if (found.length === 0) return { work, goal, unit };
    const value = less ? Math.max(...found) : Math.min(...found);
    return { work, goal, unit, value, share: less ? goal / value : value / goal };
  });
}

/** What the gate refuses: figures under `LEAST_SHARE` of their goal. */
export function refused(figures: readonly Reached[]): Reached[] {
  return figures.filter(({ share }) => share !== undefined && share < LEAST_SHARE);
}

/** Rows of a table of the goals, its head first. */
export function goalRows(figures: readonly Reached[]): string[][] {
  const number = (x: number) => Number.isNaN(x) ? "–" : round(x);
  return [
    ["work", "goal", "reached", "of the goal"],
    ...figures.map(({ work, goal, value, unit, share }) => [
      work,
      `${number(goal)} ${unit}`,
      value === undefined ? "not measured" : `${number(value)} ${unit}`,
      share === undefined ? "–" : `${(100 * share).toFixed(0)} %${share < LEAST_SHARE ? " (fails)" : ""}`,
    ]),
  ];
}

/** A number with about three digits that mean something. */
export function round(x: number): string {
  const magnitude = Math.abs(x);
  return x.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : 2);
}
