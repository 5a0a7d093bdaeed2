// Prints the pointwise ops of a TypeScript file as C functions for g++ and nvcc, from their source text and never from their types.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import type * as Morph from 'ts-morph';
import { OnelaunchError } from '../../errors.ts';
import { pathOf, type Site } from '../plan/call-site.ts';
import { describe, expressionPrinter, isFreeName, type Kind, type PointwiseRule } from './pointwise-c.ts';

/** One thing that cannot be printed, where it stands, and what can. */
export interface PointwiseIssue {
  readonly rule: PointwiseRule;
  /** As the caller names it. */
  readonly file: string;
  /** Both from 1. */
  readonly line: number;
  readonly column: number;
  /** The source that is to blame, its first line. */
  readonly token: string;
  readonly why: string;
  readonly legal: readonly string[];
  /** The whole source line. */
  readonly source: string;
}

/** All issues of a file, in source order. */
export class PointwiseError extends OnelaunchError {
  override readonly name = 'PointwiseError';
  readonly issues: readonly PointwiseIssue[];

  constructor(issues: readonly PointwiseIssue[]) {
    super('usage', issues.map(formatPointwiseIssue).join('\n\n'));
    this.issues = issues;
  }
}

/** One op or helper as a C function. */
interface PrintedOp {
  readonly name: string;
  /** C names of its float parameters, in order. */
  readonly params: readonly string[];
  /** DEVICE float name(float a, ...) { ... }, ending in a line feed. */
  readonly text: string;
}

export interface PrintedOps {
  readonly ops: readonly PrintedOp[];
  /** Other functions that the ops call. */
  readonly helpers: readonly PrintedOp[];
  /** All of them, each behind what it calls: what a kernel includes. DEVICE is the target's macro. */
  readonly text: string;
  /** Absolute paths of all files that were read. */
  readonly files: readonly string[];
}

export interface PointwiseOptions {
  /** Ops to print, in this order; all by default. */
  readonly ops?: readonly string[];
  /** Ops to print by where `pointwise` is called, in this file or another, instead of by name. */
  readonly sites?: readonly Site[];
  /** Name of the file in issues and #line; by default its path from the working folder. */
  readonly shown?: string;
  /** Precede each statement with #line, so that compilers blame the TypeScript source. */
  readonly lines?: boolean;
  /** configs/dsl.ts, for op files that import it by a package name instead of a path. */
  readonly dsl?: string;
}

/** Names of the ops `const name = pointwise(...)` at the top of a file, in source order.
 *  @throws OnelaunchError usage: the file cannot be read. */
export async function findOps(file: string): Promise<string[]> {
  const { loadSource, topLevel } = await reader();
  return [...topLevel(loadSource(file)).values()].filter(isOp).map((declaration) => declaration.getName());
}

/** C functions of a file's ops and of the arrow functions that they call, in this file or imported.
 *
 *      export const swiglu = pointwise((gate: f32, up: f32) => silu(gate) * up);
 *      DEVICE float swiglu(float gate, float up) { return silu(gate) * up; }
 *
 *  Math.max and Math.min become fmaxf and fminf, which drop a NaN that JavaScript keeps.
 *  @throws PointwiseError with every issue of the file: see PointwiseRule. */
export async function printOps(file: string, options: PointwiseOptions = {}): Promise<PrintedOps> {
  const { Node, loadSource, topLevel, loadedFiles } = await reader();
  const issues: PointwiseIssue[] = [];
  const states = new Map<Morph.VariableDeclaration, 'in progress' | 'printed' | 'failed'>();
  const order: PrintedOp[] = [];
  const shown = options.shown ?? relative(process.cwd(), file);
  // Paths from the shown file, so that the text does not depend on the working folder.
  const shownName = (path: string) => join(dirname(shown), relative(dirname(resolve(file)), path));

  const { number, print } = expressionPrinter(Node, refuse, { find: findCall, names: helperNames });
  const found = [...topLevel(loadSource(file)).values()].filter(isOp);
  const named = () => options.ops ?? found.map((declaration) => declaration.getName());
  const asked =
    options.sites?.map((site) => () => declarationAt(site)) ?? named().map((name) => () => find(name));
  const wanted = asked.flatMap((declarationOf) => attempt(declarationOf));
  if (issues.length > 0) throw new PointwiseError(inSourceOrder(issues));
  const ops = wanted.map((name) => order.find((op) => op.name === name)!);
  const helpers = order.filter((op) => !wanted.includes(op.name));
  return { ops, helpers, text: order.map((op) => op.text).join(''), files: loadedFiles() };

  /** Prints an op and gives its name; goes on with the next after an issue. */
  function attempt(declarationOf: () => Morph.VariableDeclaration): string[] {
    try {
      const declaration = declarationOf();
      printFunction(declaration);
      return [declaration.getName()];
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return [];
    }
  }

  function find(name: string): Morph.VariableDeclaration {
    const declaration = found.find((d) => d.getName() === name);
    if (declaration) return declaration;
    issues.push(missingOp(name));
    throw new Refused();
  }

  /** The constant that the result of a call of `pointwise` is given to. */
  function declarationAt(site: Site): Morph.VariableDeclaration {
    const source = loadSource(pathOf(site));
    const call = source
      .getDescendants()
      .filter((node) => Node.isCallExpression(node))
      .find((node) => {
        const callee = node.getExpression();
        const name = Node.isPropertyAccessExpression(callee) ? callee.getNameNode() : callee;
        const { line, column } = source.getLineAndColumnAtPos(name.getStart());
        return line === site.line && column === site.column;
      });
    const parent = call?.getParent();
    if (Node.isVariableDeclaration(parent)) return parent;
    return refuse(call ?? source, 'op-missing', 'an op needs a name of its own', [
      'const name = pointwise(...)',
    ]);
  }

  /** Reports at the node, then leaves the op: one issue an op. */
  function refuse(node: Morph.Node, rule: PointwiseRule, why: string, legal: readonly string[]): never {
    const from = node.getSourceFile();
    const { line, column } = from.getLineAndColumnAtPos(node.getStart());
    const source = from.getFullText().split(/\r?\n/)[line - 1]!;
    const token = node.getText().split(/\r?\n/)[0]!;
    issues.push({ rule, file: shownName(from.getFilePath()), line, column, token, why, legal, source });
    throw new Refused();
  }

  function missingOp(name: string): PointwiseIssue {
    const why = `there is no op '${name}' in this file`;
    const legal = found.map((declaration) => declaration.getName());
    return {
      rule: 'op-missing',
      file: shownName(resolve(file)),
      line: 1,
      column: 1,
      token: '',
      why,
      legal,
      source: '',
    };
  }

  /** Prints a function behind everything it calls; `caller` is to blame where that cannot be. */
  function printFunction(declaration: Morph.VariableDeclaration, caller?: Morph.Node): void {
    const name = declaration.getName();
    const state = states.get(declaration);
    if (state === 'printed') return;
    if (state === 'failed') throw new Refused();
    if (state === 'in progress') {
      refuse(caller ?? declaration, 'recursive-call', `'${name}' calls itself`, ['code without recursion']);
    }
    if ([...states.keys()].some((other) => other.getName() === name)) {
      refuse(caller ?? declaration, 'reserved-name', `two functions are named '${name}'`, ['another name']);
    }
    states.set(declaration, 'in progress');
    try {
      order.push(printArrow(declaration));
      states.set(declaration, 'printed');
    } catch (error) {
      states.set(declaration, 'failed');
      throw error;
    }
  }

  function printArrow(declaration: Morph.VariableDeclaration): PrintedOp {
    const name = checkName(declaration.getNameNode());
    const arrow = written(declaration);
    if (!Node.isArrowFunction(arrow)) {
      refuse(arrow ?? declaration, 'not-an-arrow', `'${name}' is not an arrow function`, [
        'write pointwise((x: f32) => ...) in place',
      ]);
    }
    if (arrow.isAsync()) refuse(arrow, 'not-an-arrow', `'${name}' is async`, ['a plain arrow function']);
    const scope = new Map<string, Kind>();
    const params = arrow.getParameters().map((parameter) => {
      const node = parameter.getNameNode();
      const plain = Node.isIdentifier(node) && !parameter.getInitializer() && !parameter.hasQuestionToken();
      const type = parameter.getTypeNode()?.getText() ?? (isJavaScript(arrow) ? 'f32' : undefined);
      if (!plain || parameter.isRestParameter() || type !== 'f32') {
        refuse(parameter, 'parameter-type', `parameter '${parameter.getText()}' is not a plain f32`, [
          `${Node.isIdentifier(node) ? node.getText() : 'x'}: f32`,
        ]);
      }
      scope.set(checkName(node), 'number');
      return node.getText();
    });
    const returned = arrow.getReturnTypeNode();
    if (returned && returned.getText() !== 'f32') {
      refuse(returned, 'return-type', `an op returns f32, not ${returned.getText()}`, [
        'f32',
        'no annotation',
      ]);
    }
    const head = `DEVICE float ${name}(${params.map((param) => `float ${param}`).join(', ')})`;
    return { name, params, text: printBody(arrow.getBody(), head, scope) };
  }

  function printBody(body: Morph.Node, head: string, scope: Map<string, Kind>): string {
    const line = (node: Morph.Node) =>
      options.lines
        ? `#line ${node.getStartLineNumber()} "${shownName(node.getSourceFile().getFilePath())}"\n`
        : '';
    if (!Node.isBlock(body)) return `${line(body)}${head} { return ${number(body, scope).text}; }\n`;
    const statements = body.getStatements();
    const last = statements.at(-1);
    if (!last || !Node.isReturnStatement(last)) {
      refuse(last ?? body, 'unsupported-statement', 'an op ends with a return', ['return value']);
    }
    let text = `${line(body)}${head} {\n`;
    for (const statement of statements) {
      if (Node.isVariableStatement(statement) && statement.getDeclarationKind() === 'const') {
        for (const declared of statement.getDeclarations())
          text += line(declared) + printConst(declared, scope);
      } else if (statement === last) {
        const result = last.getExpression();
        if (!result) refuse(last, 'unsupported-statement', 'an op returns a value', ['return value']);
        text += `${line(result)}  return ${number(result, scope).text};\n`;
      } else {
        refuse(
          statement,
          'unsupported-statement',
          `${describe(statement)} is not supported in a pointwise op`,
          ['const name = value', 'return value', 'condition ? a : b'],
        );
      }
    }
    return `${text}}\n`;
  }

  function printConst(declared: Morph.VariableDeclaration, scope: Map<string, Kind>): string {
    const node = declared.getNameNode();
    const value = declared.getInitializer();
    const type = declared.getTypeNode()?.getText() ?? 'f32';
    if (!Node.isIdentifier(node) || !value || type !== 'f32') {
      refuse(declared, 'unsupported-statement', `'${declared.getText()}' is not a plain constant`, [
        'const name = value',
      ]);
    }
    const printedValue = print(value, scope);
    scope.set(checkName(node), printedValue.kind);
    const ctype = printedValue.kind === 'number' ? 'float' : 'bool';
    return `  const ${ctype} ${node.getText()} = ${printedValue.text};\n`;
  }

  /** What stands where an arrow function should. */
  function written(declaration: Morph.VariableDeclaration): Morph.Node | undefined {
    const value = declaration.getInitializer();
    return Node.isCallExpression(value) ? value.getArguments()[0] : value;
  }

  function findCall(callee: Morph.Node): { c: string; parameters: number } | undefined {
    const helper = Node.isIdentifier(callee) ? findHelper(callee) : undefined;
    const arrow = helper && written(helper);
    if (!helper || !Node.isArrowFunction(arrow)) return undefined;
    printFunction(helper, callee);
    return { c: helper.getName(), parameters: arrow.getParameters().length };
  }

  /** The const arrow function that a name stands for, in its own file or where the file imports it from. */
  function findHelper(callee: Morph.Identifier): Morph.VariableDeclaration | undefined {
    const from = callee.getSourceFile();
    const own = topLevel(from).get(callee.getText());
    if (own) return isCallable(own) ? own : undefined;
    for (const imported of from.getImportDeclarations()) {
      const named = imported
        .getNamedImports()
        .find((item) => (item.getAliasNode() ?? item.getNameNode()).getText() === callee.getText());
      const path = named && importedFile(from, imported.getModuleSpecifierValue());
      const declaration = path && exported(path, named.getName());
      if (declaration && isCallable(declaration)) return declaration;
    }
    return undefined;
  }

  /** What a file exports under a name, or hands on from another file. */
  function exported(path: string, name: string): Morph.VariableDeclaration | undefined {
    const source = loadSource(path);
    const own = topLevel(source).get(name);
    if (own) return own;
    for (const handedOn of source.getExportDeclarations()) {
      const found = handedOn
        .getNamedExports()
        .find((item) => (item.getAliasNode() ?? item.getNameNode()).getText() === name);
      const from = found && importedFile(source, handedOn.getModuleSpecifierValue() ?? '');
      if (from) return exported(from, found.getName());
    }
    return undefined;
  }

  function helperNames(from: Morph.SourceFile): string[] {
    const own = [...topLevel(from).values()].filter(isCallable).map((declaration) => declaration.getName());
    const imported = from.getImportDeclarations().flatMap((declaration) => {
      const path = importedFile(from, declaration.getModuleSpecifierValue());
      const there = path ? [...topLevel(loadSource(path)).values()].filter(isCallable) : [];
      return there.map((helper) => helper.getName());
    });
    const open = [...states].filter(([, state]) => state !== 'printed').map(([d]) => d.getName());
    return [...new Set([...imported, ...own])].filter((name) => !open.includes(name));
  }

  function isCallable(declaration: Morph.VariableDeclaration): boolean {
    return (
      isOp(declaration) ||
      (declaration.getName() !== 'pointwise' && Node.isArrowFunction(declaration.getInitializer()))
    );
  }

  /** Written as .ts, or as the .js that it compiles to. */
  function importedFile(from: Morph.SourceFile, specifier: string): string | undefined {
    const isPath = specifier.startsWith('.') || isAbsolute(specifier);
    if (!isPath) return specifier.startsWith('onelaunch') ? options.dsl : undefined;
    const path = resolve(dirname(from.getFilePath()), specifier);
    return [path, path.replace(/\.js$/, '.ts')].find((candidate) => existsSync(candidate));
  }

  function checkName(node: Morph.Node): string {
    const name = node.getText();
    if (isFreeName(name)) return name;
    return refuse(node, 'reserved-name', `'${name}' cannot name anything in C`, [
      'another name of letters and digits',
    ]);
  }
}

/** An issue as tsc prints one: place, rule and reason, the line with its token underlined, then what is legal. */
function formatPointwiseIssue(issue: PointwiseIssue): string {
  const gutter = String(issue.line);
  const room = issue.source.length - issue.column + 1;
  const under = '~'.repeat(Math.max(1, Math.min(issue.token.length, room)));
  return [
    `${issue.file}:${issue.line}:${issue.column} - error ${issue.rule}: ${issue.why}`,
    ...(issue.source
      ? ['', `${gutter} ${issue.source}`, `${' '.repeat(gutter.length + issue.column)}${under}`]
      : []),
    `Legal here: ${issue.legal.join(', ')}.`,
  ].join('\n');
}

class Refused extends Error {}

function isOp(declaration: Morph.VariableDeclaration): boolean {
  return /^pointwise\s*\(/.test(declaration.getInitializer()?.getText() ?? '');
}

/** Where types are not written. */
const isJavaScript = (node: Morph.Node): boolean => /\.[cm]?js$/.test(node.getSourceFile().getFilePath());

function inSourceOrder(issues: readonly PointwiseIssue[]): PointwiseIssue[] {
  return [...issues].sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.column - b.column);
}

/** ts-morph takes 0.3 s to load, so it is loaded when first used; parsing alone never starts the type checker. */
async function reader() {
  const { Node, Project } = await import('ts-morph');
  const project = new Project({
    useInMemoryFileSystem: true,
    skipAddingFilesFromTsConfig: true,
    skipFileDependencyResolution: true,
    skipLoadingLibFiles: true,
    compilerOptions: { allowJs: true },
  });
  const loadSource = (file: string): Morph.SourceFile => {
    const path = resolve(file);
    const loaded = project.getSourceFile(path);
    if (loaded) return loaded;
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (cause) {
      throw new OnelaunchError('usage', `cannot read the op file ${file}`, { cause });
    }
    return project.createSourceFile(path, text);
  };
  const topLevel = (source: Morph.SourceFile): ReadonlyMap<string, Morph.VariableDeclaration> =>
    new Map(source.getVariableDeclarations().map((declaration) => [declaration.getName(), declaration]));
  const loadedFiles = () => project.getSourceFiles().map((source): string => source.getFilePath());
  return { Node, loadSource, topLevel, loadedFiles };
}
