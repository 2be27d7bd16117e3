/**
 * Scales of quantized checkpoints, read before anything is allocated: one that is not a number spoils a whole layer.
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import type { Checkpoint } from "./checkpoint.ts";

const SCALES = /\.(scales|SCB|absmax|nested_absmax|quant_map|nested_quant_map)$/;
const EXPONENT: Readonly<Record<string, number>> = { F16: 0x7c00, BF16: 0x7f80, F32: 0x7f800000 };

/**
 * Checks that every scale is a finite number.
 *
 * @throws {ModelFormatError} naming the first that is not
 */
export async function checkScales(checkpoint: Checkpoint): Promise<void> {
  if (checkpoint.checkScales) return await checkpoint.checkScales();
  for (const [name, { dtype }] of checkpoint.tensors) {
    const exponent = EXPONENT[dtype];
    if (!SCALES.test(name) || exponent === undefined) continue;
    const bytes = (await checkpoint.read(name)).slice();
    const bits = dtype === "F32" ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
    const wrong = bits.findIndex((word) => (word & exponent) === exponent);
    if (wrong >= 0) {
      throw new ModelFormatError(
        `Cannot load ${name} as scales must be finite numbers: number ${wrong} is NaN or infinite`,
        { hint: "The checkpoint is damaged, or was made of damaged weights: download it again." },
      );
    }
  }
}
