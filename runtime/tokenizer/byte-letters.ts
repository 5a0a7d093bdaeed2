// How tokens of byte-level BPE spell bytes.

/** The letter that stands for each byte. */
export const byteLetters: readonly string[] = byteAlphabet();

function byteAlphabet(): string[] {
  let unprintable = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    // Printable Latin-1 stands for itself; the others, the space among them, are letters from U+0100 on.
    const stands = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(stands ? byte : 0x100 + unprintable++);
  });
}
