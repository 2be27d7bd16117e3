/**
 * What a stream records, and how it is encoded for the GPU.
 *
 * @module
 */

/** One kernel launch, ready to encode. */
export interface Dispatch {
  /** Tells it from a copy. */
  readonly kind: "dispatch";
  /** The kernel with its flags and constants. */
  readonly name: string;
  /** The compiled variant. */
  readonly pipeline: GPUComputePipeline;
  /** Its bound ranges. */
  readonly group: GPUBindGroup;
  /** Workgroups along x. */
  readonly x: number;
  /** Workgroups along y. */
  readonly y: number;
  /** Workgroups along z. */
  readonly z: number;
}

/** One buffer-to-buffer copy; offsets and size in bytes, multiples of 4. */
export interface Copy {
  /** Tells it from a dispatch. */
  readonly kind: "copy";
  /** What is read. */
  readonly source: GPUBuffer;
  /** Where reading begins. */
  readonly sourceOffset: number;
  /** What is written, another buffer. */
  readonly target: GPUBuffer;
  /** Where writing begins. */
  readonly targetOffset: number;
  /** Number of bytes. */
  readonly size: number;
}

/** What a stream records. */
export type Command = Dispatch | Copy;

/** Encodes `lists` one after the other, all of them `times` times; kernels that follow each other share a pass. */
export function encode(encoder: GPUCommandEncoder, lists: readonly (readonly Command[])[], times: number): void {
  let pass: GPUComputePassEncoder | undefined;
  for (let i = 0; i < times; i++) {
    for (const commands of lists) {
      for (const command of commands) {
        if (command.kind === "dispatch") {
          encodeDispatch(pass ??= encoder.beginComputePass(), command);
        } else {
          pass?.end();
          pass = undefined;
          encodeCopy(encoder, command);
        }
      }
    }
  }
  pass?.end();
}

/** Encodes one kernel launch. */
export function encodeDispatch(pass: GPUComputePassEncoder, { pipeline, group, x, y, z }: Dispatch): void {
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(x, y, z);
}

/** Encodes one copy. */
export function encodeCopy(encoder: GPUCommandEncoder, command: Copy): void {
  encoder.copyBufferToBuffer(
    command.source,
    command.sourceOffset,
    command.target,
    command.targetOffset,
    command.size,
  );
}
