// How a kernel is compiled, and what makes the result that library: its sources, the compilers and their flags, and nothing else.
import { createHash } from 'node:crypto';
import { manifestFormat } from '../../abi/manifest.ts';
import { OnelaunchError } from '../../errors.ts';
import type { Kernel } from '../kernel.ts';
import { type CpuPath, cpuPaths, wantedPaths } from './cpu-paths.ts';
import { findCxx, findNvcc, missingTool, type Tool, tooOld } from './tools.ts';

/** One run of a compiler, in the folder of the sources. */
export interface Step {
  readonly label: string;
  readonly tool: ToolName;
  readonly args: readonly string[];
}

/** A source into an object. */
export interface CompileStep extends Step {
  readonly source: string;
  readonly object: string;
  /** Its sources do not know the model: the object is kept for other kernels. */
  readonly shared: boolean;
}

interface Steps {
  /** May run at the same time, the longest first. */
  readonly compile: readonly CompileStep[];
  readonly link: Step;
}

type ToolName = 'cxx' | 'nvcc';

const toolsOf = { cuda: ['nvcc', 'cxx'], cpu: ['cxx'] } as const;

export interface Recipe {
  readonly tools: readonly ToolName[];
  /** Of the kernel, for people. */
  readonly flags: readonly string[];
  /** Names of the CPU paths that the library has to hold; none on a GPU. */
  readonly paths: readonly string[];
  /** The steps that make a library which holds these paths. */
  readonly steps: (paths: readonly string[]) => Steps;
  /** Of the sources and of the flags of every step that may be taken: the library, but for its compilers. */
  readonly hash: string;
}

/** The compilers that a recipe asks for. */
export type Tools = Readonly<Partial<Record<ToolName, Tool>>>;

/** What is compiled of the same sources. */
export interface Flavour {
  /** For every CPU of this architecture, not only this machine's. */
  readonly ship?: boolean;
  /** A library that writes down what it does when: slower, and apart from the one that does not. */
  readonly profile?: boolean;
}

/** How a kernel is compiled here. @throws OnelaunchError usage for wrong $ONELAUNCH_CPU_PATHS, and to ship what is for a GPU */
export function recipeOf(kernel: Kernel, { ship = false, profile = false }: Flavour = {}): Recipe {
  return recipes[kernel.schedule.target.kind](kernel, { ship, defined: profile ? ['-DPROFILE=1'] : [] });
}

interface Asked {
  readonly ship: boolean;
  /** Flags of every file. */
  readonly defined: readonly string[];
}

/** What the folder of a build ends in: the recipe and the compilers, wherever these lie. */
export function keyOf(recipe: Recipe, tools: Tools): string {
  const versions = recipe.tools.map((name) => [tools[name]?.version, tools[name]?.args]);
  return shortHash([recipe.hash, versions]);
}

/** The compilers of this machine, or the reason why one is missing or too old. */
export function findTools({ tools }: Pick<Recipe, 'tools'>): Tools | Error {
  const find = { cxx: findCxx, nvcc: findNvcc };
  const found: Partial<Record<ToolName, Tool>> = {};
  for (const name of tools) {
    const tool = find[name]();
    if (!tool) return missingTool(name);
    found[name] = tool;
  }
  // Host code beside nvcc is older C++.
  return (found.cxx && !found.nvcc && tooOld(found.cxx)) || found;
}

/** Compilers in words, with their flags: what `ccache` or `env` starts is the same compiler. Libraries of the same sources by others are others. */
export const compilerText = (names: readonly ToolName[], tools: Tools): string =>
  names
    .map((name) => {
      const { version, args } = tools[name]!;
      const flags = args.filter((word) => word.startsWith('-'));
      return [...(name === 'nvcc' ? [name] : []), version, ...flags].join(' ');
    })
    .join(', ');

/** The compilers that kernels of a kind of target are built by here; null where one is missing. */
export function compilersHere(kind: keyof typeof toolsOf): string | null {
  const tools = findTools({ tools: toolsOf[kind] });
  return tools instanceof Error ? null : compilerText(toolsOf[kind], tools);
}

/** The command line of a step. nvcc compiles host code with the compiler that is part of the key. */
export function commandOf(step: Step, tools: Tools): readonly [path: string, ...args: string[]] {
  const tool = tools[step.tool]!;
  const host = step.tool === 'nvcc' && tools.cxx?.args.length === 0 ? ['-ccbin', tools.cxx.path] : [];
  return [tool.path, ...tool.args, ...host, ...step.args];
}

const shortHash = (parts: readonly unknown[]): string =>
  createHash('sha256')
    .update(JSON.stringify([manifestFormat, ...parts]))
    .digest('hex')
    .slice(0, 12);

const compiling = (
  tool: ToolName,
  label: string,
  [source, object]: readonly [source: string, object: string],
  flags: readonly string[],
  shared = false,
): CompileStep => ({ label, tool, source, object, shared, args: [...flags, '-c', source, '-o', object] });

/** The host code: what is the same for all models, and the facts of this one. */
const hostSteps = (tool: ToolName, flags: readonly string[]): readonly CompileStep[] => [
  compiling(tool, 'library.cpp', ['host/library.cpp', 'library.o'], flags, true),
  compiling(tool, 'model.cpp', ['host/model.cpp', 'model.o'], flags),
];

const commonFlags = [
  ...['-std=c++17', '-O3', '-fPIC', '-fno-math-errno', '-fvisibility=hidden', '-Wall'],
  ...['-I.', '-Ihost'],
];

function cpuRecipe(kernel: Kernel, { ship, defined }: Asked): Recipe {
  const { paths, exact } = wantedPaths(ship);
  const cxxFlags = [...commonFlags, ...defined];
  const compiled = ({ name, title, flags }: CpuPath) =>
    compiling(
      'cxx',
      `kernel.cpp for ${title}`,
      ['kernel.cpp', `kernel_${name}.o`],
      [...cxxFlags, `-DISA_NAME=${name}`, ...flags],
    );
  const steps = (names: readonly string[]): Steps => {
    const compile = [
      ...cpuPaths.filter(({ name }) => names.includes(name)).map(compiled),
      compiling('cxx', 'backend.cpp', ['backend.cpp', 'backend.o'], cxxFlags, true),
      ...hostSteps('cxx', cxxFlags),
    ];
    const objects = compile.map(({ object }) => object);
    const link = ['-shared', ...objects, '-o', 'library.so', '-pthread'];
    return { compile, link: { label: 'link', tool: 'cxx', args: link } };
  };
  const names = paths.map(({ name }) => name);
  // A library may hold any paths, unless the environment lists them.
  const possible = exact ? names : cpuPaths.map(({ name }) => name);
  const hash = shortHash([kernel.hash, exact, steps(possible)]);
  return { tools: toolsOf.cpu, flags: cxxFlags, paths: names, steps, hash };
}

/** PTX too, from which drivers of later GPUs make their code; that of an architecture with a letter is for no other GPU. */
function gencode(arch: string): string {
  const compute = arch.replace('sm_', 'compute_');
  return `-gencode=arch=${compute},code=${/\d$/.test(arch) ? `[${arch},${compute}]` : arch}`;
}

function cudaRecipe(kernel: Kernel, { ship, defined }: Asked): Recipe {
  const { name, arch } = kernel.schedule.target;
  if (ship) {
    throw new OnelaunchError('usage', `ship is for a CPU, and ${name} is a GPU`, {
      hint: 'leave it out, or give the target cpu',
    });
  }
  const hostFlags = ['-Xcompiler', '-fPIC,-fvisibility=hidden', '-I.', '-Ihost', ...defined];
  const flags = ['-std=c++17', '-O3', '-lineinfo', gencode(arch), ...hostFlags];
  const host = ['-x', 'c++', '-std=c++17', '-O2', ...hostFlags];
  const kernels = Object.keys(kernel.sources).filter((name) => name.endsWith('.cu'));
  const compile = [
    ...kernels.map((name) =>
      compiling(
        'nvcc',
        `${name} for ${arch}`,
        [name, name.replace(/\.cu$/, '.o')],
        [...flags, '-Xptxas', '-v'],
      ),
    ),
    compiling('nvcc', 'host/backend.cpp', ['host/backend.cpp', 'backend.o'], host),
    ...hostSteps('nvcc', host),
  ];
  const objects = compile.map(({ object }) => object);
  const link = ['-shared', '-cudart', 'static', ...objects, '-o', 'library.so', '-Xcompiler', '-pthread'];
  const steps: Steps = { compile, link: { label: 'link', tool: 'nvcc', args: link } };
  // nvcc takes flags from the environment as well.
  const more = ['NVCC_PREPEND_FLAGS', 'NVCC_APPEND_FLAGS'].map((name) => process.env[name] ?? '');
  const hash = shortHash([kernel.hash, steps, more]);
  return { tools: toolsOf.cuda, flags, paths: [], steps: () => steps, hash };
}

/** How each kind of target is compiled. */
const recipes = { cuda: cudaRecipe, cpu: cpuRecipe } as const;
