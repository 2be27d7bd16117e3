/**
 * Typed errors: every error that Tensaur throws on purpose is a {@linkcode TensaurError}.
 *
 * A message has three parts: what cannot be done, what must hold, what came. `hint` names the way out.
 *
 * @module
 */

/** What every error of this library carries beside its message. */
export interface ErrorDetails {
  /** The way out, in one sentence: which option, flag or command to change. */
  hint?: string;
  /** What caused it. */
  cause?: unknown;
}

/** Base of all errors that Tensaur throws on purpose; `name` and `code` tell the kinds apart. */
export class TensaurError extends Error {
  /** The kind in SCREAMING_SNAKE_CASE, stable across releases. */
  readonly code: string = "TENSAUR";
  /** The way out, where one is known. */
  readonly hint?: string;

  /** An error with the three-part `message` and its details. */
  constructor(message: string, details: ErrorDetails = {}) {
    super(message, "cause" in details ? { cause: details.cause } : undefined);
    this.name = new.target.name;
    if (details.hint !== undefined) this.hint = details.hint;
  }
}

/** A model file (safetensors, config.json, index, …) breaks its format's rules. */
export class ModelFormatError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "MODEL_FORMAT";
}

/** A file name inside a model leaves the model's folder, or names nothing that may be opened. */
export class ModelPathError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "MODEL_PATH";
}

/** Downloaded bytes are not those that were published. */
export class IntegrityError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "INTEGRITY";
}

/** A model cannot be fetched: the hub refuses it or is out of reach, the cache lacks it, or the disk takes no more. */
export class DownloadError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "DOWNLOAD";
}

/** A tokenizer cannot be loaded, or cannot encode a text. */
export class TokenizerError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "TOKENIZER";
}

/** A chat template is refused, or failed to render. */
export class TemplateError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "TEMPLATE";
}

/** Something is larger than the limit set for it. */
export class LimitError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "LIMIT";
}

/** The GPU device was lost or destroyed; everything pending on it fails with this. */
export class DeviceLostError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "DEVICE_LOST";
}

/** The GPU refused or failed an operation; the device is unusable from then on. */
export class GpuError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "GPU";
}

/** GPU memory is exhausted, or the device's memory budget is. */
export class OutOfMemoryError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "OUT_OF_MEMORY";
}

/** A result is not a number: NaN or infinity where a finite value must be. */
export class NumericError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "NUMERIC";
}

/** Something that is waited for did not come in the time that was set for it. */
export class TimeoutError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "TIMEOUT";
}

/** The caller's AbortSignal fired. */
export class AbortError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "ABORT";
}

/** A tensor has a shape that the operation cannot take. */
export class ShapeError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "SHAPE";
}

/** A tensor has a dtype that the operation cannot take. */
export class DtypeError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "DTYPE";
}

/** An option or argument has a value that cannot be taken (Python's ValueError in the Hugging Face documents). */
export class ValueError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "VALUE";
}

/** A call came in a state that does not allow it, or nothing was left to run it (Python's RuntimeError). */
export class RuntimeError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "RUNTIME";
}

/** Something that is known but not supported here: a model type, a scheme, a file kind. */
export class NotSupportedError extends TensaurError {
  /** See {@linkcode TensaurError.code}. */
  override readonly code = "NOT_SUPPORTED";
}

/** {@linkcode NotSupportedError} by the name that the Hugging Face documents give it (Python's NotImplementedError). */
export class NotImplementedError extends NotSupportedError {}

/** Throws {@linkcode AbortError} if `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted) {
    throw new AbortError(`Cannot go on with ${what} as its AbortSignal fired`, { cause: signal.reason });
  }
}
