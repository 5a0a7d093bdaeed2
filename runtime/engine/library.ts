// Opens a generated library and refuses one that does not match these bindings and its manifest.
import koffi from 'koffi';
import type { Manifest } from '../../abi/manifest.ts';
import { InsufficientMemoryError, OnelaunchError } from '../../errors.ts';
import {
  abiVersion,
  bindFunctions,
  type Description,
  type Functions,
  layout,
  zeroDescription,
} from './bindings.ts';

/** An opened library: its functions and what it says of itself. */
export interface Library {
  readonly path: string;
  readonly functions: Functions;
  readonly description: Readonly<Description>;
}

/** Opens the library at `path`, made for `manifest`.
 *  @throws OnelaunchError when it cannot be loaded, or was made by another generator or for other inputs */
export function openLibrary(path: string, manifest: Manifest): Library {
  const functions = bind(path);
  const description = zeroDescription();
  functions.ol_describe(description);
  const expected: readonly (readonly [what: string, got: unknown, want: unknown])[] = [
    ['interface version', description.abi, abiVersion],
    ['interface version in the manifest', manifest.abi, abiVersion],
    ...layoutMismatches(functions),
    ['hash', description.hash, manifest.hash],
    ['vocabulary', description.vocab, manifest.dims.vocab],
    ['tokens a pass', description.pass_tokens, manifest.passTokens],
    ['weight slots', description.slots, manifest.slots.length],
    ['weight bytes', Number(description.weight_bytes), manifest.weightBytes],
  ];
  for (const [what, got, want] of expected) {
    if (got !== want) {
      throw new OnelaunchError(
        'failed',
        `${path} does not match: ${what} is ${got}, expected ${want}`,
        rebuild,
      );
    }
  }
  return { path, functions, description };
}

const rebuild = { hint: 'delete the folder of this library and build it again' };

/** koffi's own stacks [bytes]. The library works on its own threads; this is room for what the dynamic linker runs. */
const stackBytes = 8 << 20;
let stackConfigured = false;

function bind(path: string): Functions {
  configureStack();
  try {
    return bindFunctions(koffi.load(path));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (/cannot allocate memory/i.test(reason)) {
      throw new InsufficientMemoryError(`there is no memory to load ${path}`, {
        hint: 'End other programs, or give this one more: ulimit -v shows its limit.',
        cause: error,
      });
    }
    throw new OnelaunchError('environment', `cannot load ${path}: ${reason}`, { ...rebuild, cause: error });
  }
}

function configureStack(): void {
  if (stackConfigured) return;
  stackConfigured = true;
  try {
    koffi.config({ ...koffi.config(), sync_stack_size: stackBytes });
  } catch {
    // The program loaded another library with koffi before: the default of 2 MiB stays, which the tests run with too.
  }
}

/** Every size and offset of which koffi or the compiler thinks otherwise than the table; empty when all agree. */
function layoutMismatches(functions: Functions): [string, unknown, unknown][] {
  const mismatches: [string, unknown, unknown][] = [];
  let index = 0;
  const compare = (what: string, byKoffi: number | undefined, expected: number) => {
    const byCompiler = Number(functions.ol_layout(index++));
    if (byKoffi !== expected) mismatches.push([`${what} in koffi`, byKoffi, expected]);
    if (byCompiler !== expected) mismatches.push([what, byCompiler, expected]);
  };
  for (const struct of layout) {
    compare(`size of ${struct.name}`, struct.type.size, struct.size);
    for (const [field, offset] of Object.entries(struct.offsets)) {
      compare(`offset of ${struct.name}.${field}`, struct.type.members?.[field]?.offset, offset);
    }
  }
  if (Number(functions.ol_layout(index)) !== -1) mismatches.push(['number of fields', 'larger', index]);
  return mismatches;
}
