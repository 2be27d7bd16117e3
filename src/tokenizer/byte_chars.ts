/** GPT-2's alphabet: a printable character for each of the 256 bytes, so that bytes can be tokens in a JSON file. */

/** The character of each byte. */
export const BYTE_CHARS: readonly string[] = makeByteChars();

const BYTES = new Map(BYTE_CHARS.map((char, byte) => [char, byte]));
const encoder = new TextEncoder();

function makeByteChars(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : next++);
  });
}

/** `text` as the characters of its UTF-8 bytes. */
export function toByteChars(text: string): string {
  let chars = "";
  for (const byte of encoder.encode(text)) chars += BYTE_CHARS[byte];
  return chars;
}

/** The bytes that `token` stands for; its own UTF-8 where one of its characters stands for none. */
export function tokenBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTES.get(token[i]!);
    if (byte === undefined) return encoder.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}
