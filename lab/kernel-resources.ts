// What a built kernel takes of its machine: registers, spills, shared memory, and its instructions by class and width.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from '../abi/manifest.ts';
import { nameOf } from '../codegen/build/resources.ts';
import { needDisassembler, printed } from './disassemble.ts';
import { type Code, sassCode, x86Code } from './instructions.ts';

/** One kernel of a GPU, or the code for one instruction set of a CPU. */
export interface KernelResources extends Code {
  /** Of a thread; null: not told, or on a CPU. */
  readonly registers: number | null;
  readonly spillBytes: number | null;
  /** Shared memory that is declared in the kernel [bytes], without what its launch adds; null on a CPU. */
  readonly sharedBytes: number | null;
}

/** Of a library that was built. @throws OnelaunchError environment without a disassembler */
export function resourcesOf(directory: string, manifest: Manifest): KernelResources[] {
  return manifest.kind === 'cuda' ? ofGpu(directory, manifest) : ofCpu(directory, manifest);
}

/** The objects of the kernel alone; where they were not kept the library, which has all else too. */
function objectsOf(directory: string, { library }: Manifest): string[] {
  const kept = readdirSync(directory).filter((name) => /^(kernel|prompt)\w*\.o$/.test(name));
  return kept.length > 0 ? kept.sort() : [library];
}

function ofCpu(directory: string, manifest: Manifest): KernelResources[] {
  const tool = needDisassembler('objdump');
  return objectsOf(directory, manifest).map((object) => {
    const text = printed(tool, ['-d', '-w', '--no-show-raw-insn'], join(directory, object));
    const name = /^kernel_(\w+)\.o$/.exec(object)?.[1] ?? object;
    return { ...x86Code(text, name), registers: null, spillBytes: null, sharedBytes: null };
  });
}

function ofGpu(directory: string, manifest: Manifest): KernelResources[] {
  const tool = needDisassembler('cuobjdump');
  return objectsOf(directory, manifest).flatMap((object) => {
    const path = join(directory, object);
    const shared = sharedBytesOf(printed(tool, ['-res-usage'], path));
    return sassCode(printed(tool, ['-sass'], path), nameOf).map((code) => {
      const told = manifest.build.resources.find(({ name }) => name === code.name);
      return {
        ...code,
        registers: told?.registers ?? null,
        spillBytes: told?.spillBytes ?? null,
        sharedBytes: shared.get(code.name) ?? null,
      };
    });
  });
}

/** Static shared memory by kernel, from `cuobjdump -res-usage`. */
export function sharedBytesOf(text: string): ReadonlyMap<string, number> {
  const found = text.matchAll(/^\s*Function (\S+?):\s+.*?\bSHARED:(\d+)/gm);
  return new Map([...found].map(([, symbol, bytes]) => [nameOf(symbol!), Number(bytes)]));
}
