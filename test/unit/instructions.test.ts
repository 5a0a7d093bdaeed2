// A disassembly becomes counts: what is a load, how wide it is, and which class an instruction is of.
import { describe, expect, it, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { sassCode, x86Code } from '../../lab/instructions.ts';
import { sharedBytesOf } from '../../lab/kernel-resources.ts';

const sass = `
	code for sm_90a
		Function : _Z6decodeILi16EEv10LaunchArgs
	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED EF_CUDA_64BIT_ADDRESS EF_CUDA_ACCELERATORS EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                            /* 0x00000a00ff017b82 */
                                                                                     /* 0x000fe20000000800 */
        /*0010*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;         /* 0x0000000402047981 */
        /*0020*/              @!P0 LDG.E.64 R8, desc[UR4][R2.64+0x10] ;
        /*0030*/              @P1  LDG.E R8, desc[UR4][R2.64+0x10] ;
        /*0040*/                   LDG.E.U16 R8, desc[UR4][R2.64+0x10] ;
        /*0050*/                   LDS.128 R4, [R2+UR4] ;
        /*0060*/                   LDSM.16.M88.4 R4, [R2] ;
        /*0070*/             @!UP0 UBLKCP.S.G [UR8], [UR6], UR9 ;
        /*0080*/                   LDGSTS.E.BYPASS.128 [R3], desc[UR4][R2.64] ;
        /*0090*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*00a0*/                   FFMA R4, R5, R6, R7 ;
        /*00b0*/                   IMAD.MOV.U32 R1, RZ, RZ, R2 ;
        /*00c0*/                   STG.E desc[UR4][R2.64], R4 ;
        /*00d0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00e0*/                   EXIT ;
		..........
		Function : _Z4packPKcS0_Pci
        /*0000*/                   EXIT ;
`;

describe('SASS', () => {
  const [decode, pack] = sassCode(sass, (symbol) => symbol);

  it('is cut into functions, and every instruction counts once', () => {
    expect(decode).toMatchObject({ name: '_Z6decodeILi16EEv10LaunchArgs', instructions: 15 });
    expect(pack).toMatchObject({ name: '_Z4packPKcS0_Pci', instructions: 1, loads: [] });
  });

  it('says how wide a load is: 32 bits where nothing else is said, unknown where a register says it', () => {
    const widths = decode!.loads.map(({ name, bits, count }) => `${name} ${bits}: ${count}`);
    expect(widths).toEqual([
      ...['LDC 32: 1', 'LDG 128: 1', 'LDG 64: 1', 'LDG 32: 1', 'LDG 16: 1', 'LDGSTS 128: 1'],
      ...['LDS 128: 1', 'LDSM.4 null: 1', 'UBLKCP null: 1'],
    ]);
    expect(decode!.stores).toEqual([{ name: 'STG', bits: 32, count: 1 }]);
  });

  it('has classes that add up, none of them unknown here', () => {
    const classes = new Map(decode!.classes.map(({ name, count }) => [name, count]));
    expect([...classes.values()].reduce((a, b) => a + b)).toBe(15);
    expect(classes.get('loads')).toBe(8);
    expect(classes.get('tensor cores')).toBe(1);
    expect(classes.get('other')).toBeUndefined();
  });

  test('the shared memory of a kernel is in another table', () => {
    const text = ' Function _Z4packPKcS0_Pci:\n  REG:31 STACK:0 SHARED:1088 LOCAL:0 CONSTANT[0]:920\n';
    expect(sharedBytesOf(text)).toEqual(new Map([['pack', 1088]]));
  });
});

const x86 = `
0000000000000000 <_ZN10avx512bf164passEv>:
      b0:	vmovups (%rsi),%zmm4
      ba:	vpslld $0x10,-0x40(%rdi),%zmm11
      c0:	vmovups 0x20(%rax,%rbx,4),%ymm0{%k1}{z}
     147:	vmovaps %zmm4,0x8(%rsp)
     27b:	vfmadd213ps 0x8(%rsp),%zmm6,%zmm3
     2f6:	vmovss 0x8b0(%rip),%xmm4        # 1000 <.LC0>
     2fa:	vaddps %ymm1,%ymm2,%ymm3
     314:	mov    %eax,(%rax)
     31a:	lock cmpxchg %edx,(%rdi)
     31f:	lea    0x1000(%rsi),%rdx
     320:	prefetcht0 (%rsi)
     330:	jmp    47 <_ZN10avx512bf164passEv+0x47>
     340:	ret
`;

describe('x86', () => {
  const code = x86Code(x86, 'avx512bf16');

  it('says which registers a load fills, and what is no load', () => {
    const widths = ({ name, bits, count }: { name: string; bits: number | null; count: number }) =>
      `${name} ${bits}: ${count}`;
    expect(code.loads.map(widths)).toEqual(['scalar null: 1', 'ymm 256: 1', 'zmm 512: 3']);
    expect(code.stores.map(widths)).toEqual(['scalar null: 2', 'zmm 512: 1']);
    expect(code.instructions).toBe(13);
  });
});

describe('gen resources', () => {
  const gen = async (...args: readonly string[]) => {
    const { io, written } = memoryIo();
    return { code: await run(['resources', '--model', 'qwen3-tiny', ...args], io), ...written };
  };

  it('counts the vector loads of the library of this CPU', async () => {
    const { code, out } = await gen('--target', 'cpu', '--json');
    expect(code).toBe(0);
    const { resources } = JSON.parse(out) as {
      resources: { instructions: number; loads: { count: number }[] }[];
    };
    const [kernel] = resources;
    expect(kernel!.instructions).toBeGreaterThan(1000);
    expect(kernel!.loads.reduce((sum, { count }) => sum + count, 0)).toBeGreaterThan(100);
  });

  it.each([
    ['cpu', 'OBJDUMP', 'install binutils'],
    ['h100', 'CUOBJDUMP', 'CUDA toolkit'],
  ])('for %s without its tool leaves with 3 before it compiles', async (target, variable, hint) => {
    process.env[variable] = '/nowhere/tool';
    try {
      const { code, err } = await gen('--target', target);
      expect(err).toContain(`error: ${variable} is '/nowhere/tool', which does not run`);
      expect(err).toContain(hint);
      expect(err).not.toContain('compiling');
      expect(code).toBe(3);
    } finally {
      delete process.env[variable];
    }
  });
});
