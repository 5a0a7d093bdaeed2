// The number types of GGUF tensors: those that are read, with the size of their blocks, and the names of all others.

export interface TensorType {
  readonly name: string;
  /** Numbers of a block; 1 for plain numbers. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
}

const type = (name: string, elements: number, bytes: number): TensorType => ({ name, elements, bytes });

/** By their code in the file. Source: enum ggml_type and the block structs of ggml. */
export const tensorTypes: ReadonlyMap<number, TensorType> = new Map([
  [0, type('F32', 1, 4)],
  [1, type('F16', 1, 2)],
  [30, type('BF16', 1, 2)],
  [8, type('Q8_0', 32, 34)],
  [2, type('Q4_0', 32, 18)],
  [3, type('Q4_1', 32, 20)],
  [6, type('Q5_0', 32, 22)],
  [7, type('Q5_1', 32, 24)],
  [12, type('Q4_K', 256, 144)],
  [13, type('Q5_K', 256, 176)],
  [14, type('Q6_K', 256, 210)],
]);

const unread: Readonly<Record<number, string>> = {
  ...{ 9: 'Q8_1', 10: 'Q2_K', 11: 'Q3_K', 15: 'Q8_K' },
  ...{ 16: 'IQ2_XXS', 17: 'IQ2_XS', 18: 'IQ3_XXS', 19: 'IQ1_S', 20: 'IQ4_NL', 21: 'IQ3_S', 22: 'IQ2_S' },
  ...{ 23: 'IQ4_XS', 24: 'I8', 25: 'I16', 26: 'I32', 27: 'I64', 28: 'F64', 29: 'IQ1_M' },
  ...{ 34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4', 40: 'NVFP4' },
};

/** What a code stands for, to people. */
export const typeName = (code: number): string =>
  tensorTypes.get(code)?.name ?? unread[code] ?? `the unknown type ${code}`;
