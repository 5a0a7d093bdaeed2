// What a compiler says of registers and spills becomes data.
import { expect, test } from 'vitest';
import { parseResources, spillLines } from '../../codegen/build/resources.ts';

const output = `ptxas info    : Compiling entry function '_Z6decodeILi16EEv10LaunchArgs' for 'sm_90a'
ptxas info    : Function properties for _Z6decodeILi16EEv10LaunchArgs
    0 bytes stack frame, 24 bytes spill stores, 40 bytes spill loads
ptxas info    : Used 168 registers, used 3 barriers, 1024 bytes smem
ptxas info    : Function properties for _Z4packPKcS0_Pci
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 31 registers, used 0 barriers
ptxas info    : Function properties for _ZN5tiles6promptILi1EEEv10PromptArgs
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes smem
ptxas info    : Function properties for _Z12choose_tokenPfPKf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
`;

test('kernels are named as the source names them, called functions have no registers of their own', () => {
  expect(parseResources(output)).toEqual([
    { name: 'decode<16>', registers: 168, spillBytes: 64 },
    { name: 'pack', registers: 31, spillBytes: 0 },
    { name: 'tiles::prompt<1>', registers: 255, spillBytes: 0 },
    { name: 'choose_token', registers: 0, spillBytes: 0 },
  ]);
});

test('a kernel that spills says so', () => {
  expect(spillLines(parseResources(output))).toEqual([
    'decode<16> spills 64 bytes a thread: it is slower than it need be',
  ]);
});
