import { assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { DYNAMIC_MAP } from "../../src/quantization/code_books.ts";
import { BitsAndBytesConfig, type BitsAndBytesOptions } from "../../src/quantization/mod.ts";

const refused: [options: object, message: string][] = [
  [{ loadIn4bit: true, loadIn8bit: true }, "only one of loadIn4bit and loadIn8bit can be used at the same time"],
  [{ loadIn8bit: "yes" }, 'loadIn8bit must be a boolean: current value is "yes"'],
  [{ loadIn4bit: 1 }, "loadIn4bit must be a boolean"],
  [{ llmInt8Threshold: "6" }, 'llmInt8Threshold must be a float from 0: current value is "6"'],
  [{ llmInt8Threshold: -1 }, "llmInt8Threshold must be a float"],
  [{ llmInt8Threshold: NaN }, "llmInt8Threshold must be a float"],
  [{ llmInt8SkipModules: "lm_head" }, "llmInt8SkipModules must be a list of strings"],
  [{ llmInt8SkipModules: [3] }, "llmInt8SkipModules must be a list of strings"],
  [{ llmInt8EnableFp32CpuOffload: 0 }, "llmInt8EnableFp32CpuOffload must be a boolean"],
  [{ llmInt8HasFp16Weight: "no" }, "llmInt8HasFp16Weight must be a boolean"],
  [{ bnb4bitComputeDtype: "int8" }, "bnb4bitComputeDtype must be one of float32, float16, bfloat16"],
  [{ bnb4bitQuantType: "int4" }, 'bnb4bitQuantType must be one of fp4, nf4: current value is "int4"'],
  [{ bnb4bitUseDoubleQuant: "true" }, "bnb4bitUseDoubleQuant must be a boolean"],
  [
    { bnb4bitQuantStorage: "int4" },
    "bnb4bitQuantStorage must be one of float16, float32, int8, uint8, float64, bfloat16",
  ],
  [{ bnb4bitBlocksize: 48 }, "bnb4bitBlocksize must be one of 32, 64"],
  [{ bnb4bitBlocksize: 8192 }, "bnb4bitBlocksize must be one of 32, 64"],
  [{ load_in_4bit: true }, 'one is "load_in_4bit"'],
];

for (const [options, message] of refused) {
  Deno.test(`BitsAndBytesConfig refuses ${JSON.stringify(options)}`, () => {
    assertThrows(() => new BitsAndBytesConfig(options as BitsAndBytesOptions), ValueError, message);
  });
}

Deno.test("BitsAndBytesConfig has bitsandbytes' defaults", () => {
  const config = new BitsAndBytesConfig();
  assertEquals(config.toDict(), {
    quant_method: "bitsandbytes",
    load_in_8bit: false,
    load_in_4bit: false,
    llm_int8_threshold: 6,
    llm_int8_skip_modules: null,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    bnb_4bit_compute_dtype: "float32",
    bnb_4bit_quant_type: "fp4",
    bnb_4bit_use_double_quant: false,
    bnb_4bit_quant_storage: "uint8",
  });
  assertEquals(config.toDiffDict(), {});
  assertEquals([config.isQuantizable(), config.quantizationMethod()], [false, undefined]);
});

const written: [options: BitsAndBytesOptions, method: string][] = [
  [{ loadIn8bit: true, llmInt8Threshold: 4, llmInt8SkipModules: ["lm_head"] }, "llm_int8"],
  [{ loadIn4bit: true }, "fp4"],
  [{ loadIn4bit: true, bnb4bitQuantType: "nf4", bnb4bitComputeDtype: "bfloat16", bnb4bitBlocksize: 128 }, "nf4"],
];

for (const [options, method] of written) {
  Deno.test(`BitsAndBytesConfig survives config.json: ${JSON.stringify(options)}`, () => {
    const config = new BitsAndBytesConfig(options);
    assertEquals(config.quantizationMethod(), method);
    const json = JSON.parse(JSON.stringify(config.toDict()));
    assertEquals(BitsAndBytesConfig.fromDict({ ...json, _load_in_4bit: true, later_key: 1 }), config);
    assertEquals(BitsAndBytesConfig.fromDict(config.toDiffDict()), config);
  });
}

Deno.test("BitsAndBytesConfig.fromDict() takes dtypes as torch writes them", () => {
  assertEquals(BitsAndBytesConfig.fromDict({ bnb_4bit_compute_dtype: "torch.float16" }).bnb4bitComputeDtype, "float16");
});

Deno.test("DYNAMIC_MAP has 256 entries in order, with bitsandbytes' ends", () => {
  assertEquals([DYNAMIC_MAP.length, DYNAMIC_MAP[0], DYNAMIC_MAP[255]], [256, Math.fround(-0.992968738079071), 1]);
  assertEquals(DYNAMIC_MAP.every((v, i) => i === 0 || v > DYNAMIC_MAP[i - 1]!), true);
});
