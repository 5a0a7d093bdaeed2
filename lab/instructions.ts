// A disassembly as counts: instructions by class, loads and stores by width. How often each stands in the code, not how often it runs.

/** Instructions of one kind, such as LDG of 128 bits. */
export interface Count {
  readonly name: string;
  /** Bits of a lane or of the register that it fills; null where the text does not say. */
  readonly bits: number | null;
  readonly count: number;
}

/** The code of one function, or of one object. */
export interface Code {
  readonly name: string;
  readonly instructions: number;
  readonly loads: readonly Count[];
  readonly stores: readonly Count[];
  /** By class, largest first. */
  readonly classes: readonly { readonly name: string; readonly count: number }[];
}

/** What one instruction is. */
interface Instruction {
  readonly class: string;
  readonly access: {
    readonly kind: 'loads' | 'stores';
    readonly name: string;
    readonly bits: number | null;
  } | null;
}

/** Classes of SASS, by the first part of an opcode; the first that fits. */
const sassClasses: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['tensor cores', /^(HMMA|IMMA|DMMA|BMMA|QMMA|[HIQ]GMMA|WARPGROUP)$/],
  ['loads', /^(LD|LDG|LDS|LDSM|LDL|LDC|ULDC|LDCU|LDGSTS|LDT|LDTM)$/],
  ['stores', /^(ST|STG|STS|STSM|STL|STT|STTM)$/],
  ['bulk copies', /^(UBLKCP|UBLKPF|UBLKRED|UTMALDG|UTMASTG|UTMAPF)$/],
  ['atomics', /^(ATOM|ATOMG|ATOMS|RED|REDG|UREDGR?)$/],
  [
    'syncs',
    /^(BAR|SYNCS|MEMBAR|FENCE|ERRBAR|CCTL|DEPBAR|LDGDEPBAR|WARPSYNC|NANOSLEEP|UCGABAR_\w+|YIELD|BSYNC|BSSY)$/,
  ],
  ['shuffles and votes', /^(SHFL|VOTE|VOTEU|MATCH|REDUX|CREDUX|R2UR|R2P|P2R)$/],
  ['conversions', /^(F2F|F2I|I2F|F2FP|I2FP|F2IP|FRND|I2I)$/],
  ['special functions', /^(MUFU)$/],
  [
    'float',
    /^(F(ADD|MUL|FMA|MNMX|SEL|SET|SETP|CHK|SWZADD)\d*|H(ADD2|MUL2|FMA2|MNMX2|SET2|SETP2)|D(ADD|MUL|FMA|SETP))$/,
  ],
  [
    'control',
    /^(BRA|BRX|JMP|JMX|CALL|RET|EXIT|BREAK|BMOV|BPT|KILL|NOP|RPCMOV|PLOP3|UPLOP3|PREEXIT|ACQBULK|ELECT|USETMAXREG)$/,
  ],
  [
    'integer and moves',
    /^U?(IMAD|IADD3?|IADD|LOP3|LEA|SHF|SHL|SHR|ISETP|ISET|IMNMX|VIMNMX\w*|IABS|IDP|IDP4A|POPC|FLO|BREV|BMSK|SGXT|PRMT|SEL|MOV|VIADD\w*|CS2R|S2R|S2UR|P2UR|I?DP|FMOV|XMAD|LOP|MOV32I)$/,
  ],
];

/** By the opcode: bulk copies have a class of their own, and those into shared memory are loads all the same. */
const sassLoads = /^(LD|LDG|LDS|LDSM|LDL|LDC|ULDC|LDCU|LDGSTS|UBLKCP\.S|UTMALDG)(\.|$)/;
const sassStores = /^(ST|STG|STS|STSM|STL|UBLKCP\.G|UTMASTG)(\.|$)/;

/** Bits of an access: a part of its opcode; words of 32 bits where none says so. A bulk copy says it in a register. */
function sassBits(parts: readonly string[]): number | null {
  if (/^(UBLKCP|UTMALDG|UTMASTG|LDSM|STSM)$/.test(parts[0]!)) return null;
  for (const part of parts.slice(1)) {
    if (/^(256|128|64)$/.test(part)) return Number(part);
    const narrow = /^[US](8|16)$/.exec(part)?.[1];
    if (narrow) return Number(narrow);
  }
  return 32;
}

/** Such as `LDG.E.128.CONSTANT`. */
function sassInstruction(opcode: string): Instruction {
  const parts = opcode.split('.');
  const first = parts[0]!;
  const found = sassClasses.find(([, pattern]) => pattern.test(first));
  const kind = sassLoads.test(opcode) ? 'loads' : sassStores.test(opcode) ? 'stores' : null;
  const sized = first === 'LDSM' || first === 'STSM' ? [first, parts.at(-1)].join('.') : first;
  return {
    class: found?.[0] ?? 'other',
    access: kind && { kind, name: sized, bits: sassBits(parts) },
  };
}

/** Functions of `cuobjdump -sass`. @param nameOf what the source calls a symbol */
export function sassCode(text: string, nameOf: (symbol: string) => string): Code[] {
  return text
    .split(/^\s*Function : /m)
    .slice(1)
    .map((part) => {
      const symbol = part.slice(0, part.indexOf('\n')).trim();
      const lines = [...part.matchAll(/^\s*\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)/gm)];
      return codeOf(
        nameOf(symbol),
        lines.map((found) => sassInstruction(found[1]!)),
      );
    });
}

/** Classes of x86, by mnemonic. */
const x86Classes: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['fused multiply-adds', /^(vfn?m(add|sub)|vdpbf16ps|vdpphps)/],
  ['conversions', /^(vcvt|vpmov[zs]x|cvt)/],
  [
    'shuffles',
    /^v?(perm|pperm|shuf|pshuf|unpck|punpck|extract|pextr|insert|pinsr|broadcast|pbroadcast|align|palign|blend|pblend|hadd|movsh|movhl|movlh)/,
  ],
  [
    'vector arithmetic',
    /^(v(add|sub|mul|div|sqrt|max|min|cmp|u?comi|round|rndscale|rcp|rsqrt|and|or|xor|p(sl|sr|sa|add|sub|mul|and|or|xor|max|min|cmp|tern|test))|(add|sub|mul|div|sqrt|max|min|u?comi|cmp|and|or|xor)[sp][sd])/,
  ],
  ['vector moves', /^(vmov|mov[aul]|movs[sd]$|movdq|vzero)/],
  ['prefetches', /^prefetch/],
  ['control', /^(j|call|ret|leave|push|pop|nop|endbr|pause|lock|rep|ud2|hlt)/],
];

/** A register of a vector, by its letter: what it fills. */
const registerBits = { z: 512, y: 256, x: 128 } as const;

/** A line of `objdump -d` without its address, in AT&T order: sources first. */
function x86Instruction(mnemonic: string, operands: string): Instruction {
  const name = x86Classes.find(([, pattern]) => pattern.test(mnemonic))?.[0] ?? 'scalar';
  const touches = /\([^)]*%/.exec(operands);
  const isAccess = touches !== null && !/^(lea|nop|prefetch|call|j)/.test(mnemonic);
  if (!isAccess) return { class: name, access: null };
  const widest = (['z', 'y', 'x'] as const).find((letter) => operands.includes(`%${letter}mm`));
  const isScalar = widest === undefined || /s[sd]$/.test(mnemonic);
  const stores = /\([^()]*\)(\{%k\d\})?$/.test(operands) && !/^(cmp|test|push|bt)[bwlq]?$/.test(mnemonic);
  return {
    class: name,
    access: {
      kind: stores ? 'stores' : 'loads',
      name: isScalar ? 'scalar' : `${widest}mm`,
      bits: isScalar ? null : registerBits[widest],
    },
  };
}

/** All functions of `objdump -d --no-show-raw-insn` as one. */
export function x86Code(text: string, name: string): Code {
  const lines = [
    ...text.matchAll(
      /^\s+[0-9a-f]+:\t(?:(?:lock|rep\w*|notrack|bnd|data16|cs) )*([a-z][a-z0-9]*)[ \t]*([^#<\n]*)/gm,
    ),
  ];
  return codeOf(
    name,
    lines.map((found) => x86Instruction(found[1]!, found[2]!.trim())),
  );
}

function codeOf(name: string, instructions: readonly Instruction[]): Code {
  const classes = new Map<string, number>();
  const counts = { loads: new Map<string, Count>(), stores: new Map<string, Count>() };
  for (const { class: kind, access } of instructions) {
    classes.set(kind, (classes.get(kind) ?? 0) + 1);
    if (!access) continue;
    const key = `${access.name} ${access.bits}`;
    const count = (counts[access.kind].get(key)?.count ?? 0) + 1;
    counts[access.kind].set(key, { name: access.name, bits: access.bits, count });
  }
  const listed = (of: ReadonlyMap<string, Count>) =>
    [...of.values()].sort((a, b) =>
      a.name < b.name ? -1 : a.name > b.name ? 1 : (b.bits ?? 0) - (a.bits ?? 0),
    );
  return {
    name,
    instructions: instructions.length,
    loads: listed(counts.loads),
    stores: listed(counts.stores),
    classes: [...classes].map(([kind, count]) => ({ name: kind, count })).sort((a, b) => b.count - a.count),
  };
}
