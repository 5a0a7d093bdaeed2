// What is wrong with a plan: data first, then text that shows the user's own line.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import type { CallExpression, Node, SourceFile } from 'ts-morph';
import { OnelaunchError } from '../../errors.ts';
import { pathOf, type Site } from './call-site.ts';

export interface Issue {
  readonly rule: string;
  /** The call of stage(), plan() or a scheme that caused it. */
  readonly at: Site;
  /** First argument of that call, the name of the stage or of the plan; of a scheme its own name. */
  readonly call: string;
  /** The literal to blame. */
  readonly token: string;
  /** Where in the call the literal stands, `nth` counts equal ones from 0; `key`: it names an option; `value`: that option's value. */
  readonly argument: 'name' | 'ops' | 'over' | 'recompute' | 'split' | 'scheme' | 'tokens' | 'key' | 'value';
  readonly nth: number;
  /** Why it cannot be, as a sentence without its full stop, or a sentence and a question. */
  readonly why: string;
  /** Changes that make it legal; empty if there is none in reach of the plan. */
  readonly legal: readonly string[];
  /** Of an option that is wrong whatever the model and the target: what there is, as a sentence without its full stop. */
  readonly known?: string;
}

/** An illegal plan, with every issue of it in source order. */
export class PlanError extends OnelaunchError {
  override readonly name = 'PlanError';
  readonly issues: readonly Issue[];
  /** The plan's file, from the working folder; null: it has none. */
  readonly file: string | null;

  constructor(issues: readonly Issue[], file: string | null = null) {
    super('usage', formatIssues(issues));
    this.issues = issues;
    this.file = file;
  }
}

/**
 * The issues as text, with the line of the plan where it can be read:
 *
 *     plan.ts:4:47: error: sync-inside-stage
 *       4 |   stage('attention', ['attend', 'o_proj'], { over: 'kv_heads' }),
 *         |                                  ^^^^^^
 *       o_proj needs all of att, but in stage 'attention' each block makes only its own kv head.
 *       Legal here: end stage 'attention' before o_proj.
 */
export function formatIssues(issues: readonly Issue[]): string {
  const sources = new Map<string, SourceFile | null>();
  return issues.map((issue) => formatIssue(issue, sources)).join('\n\n');
}

function formatIssue(issue: Issue, sources: Map<string, SourceFile | null>): string {
  const { file } = issue.at;
  if (!sources.has(file)) sources.set(file, readSource(issue.at));
  const source = sources.get(file) ?? null;
  const found = source && locate(source, issue);
  const { line, column } = found ?? issue.at;
  const place = file === '' ? '' : `${basename(pathOf(issue.at))}:${line}:${column}: `;
  const gutter = ' '.repeat(String(line).length);
  const shown = found
    ? [
        `  ${line} | ${found.text.trimEnd()}`,
        `  ${gutter} | ${found.text.slice(0, column - 1).replace(/[^\t]/g, ' ')}${'^'.repeat(Math.max(1, found.length))}`,
      ]
    : [];
  const legal = issue.legal.length > 0 ? [`  Legal here: ${issue.legal.join('; or ')}.`] : [];
  const why = `  ${issue.why}${issue.why.endsWith('?') ? '' : '.'}`;
  const known = issue.known ? [`  ${issue.known}.`] : [];
  return [`${place}error: ${issue.rule}`, ...shown, why, ...known, ...legal].join('\n');
}

function readSource(at: Site): SourceFile | null {
  let text: string;
  try {
    text = readFileSync(pathOf(at), 'utf8');
  } catch {
    return null;
  }
  // Only for errors: ts-morph takes half a second to load.
  const { Project } = createRequire(import.meta.url)('ts-morph') as typeof import('ts-morph');
  const project = new Project({
    useInMemoryFileSystem: true,
    skipAddingFilesFromTsConfig: true,
    compilerOptions: { allowJs: true },
  });
  return project.createSourceFile(`/${basename(pathOf(at))}`, text);
}

interface Found {
  readonly line: number;
  readonly column: number;
  readonly text: string;
  readonly length: number;
}

/** The literal in the call, or the call's own name where the literal is made elsewhere. */
function locate(source: SourceFile, issue: Issue): Found | null {
  const lines = source.getFullText().split('\n');
  const call = callOf(source, issue);
  const literal = call && literalIn(call, issue);
  if (literal) {
    const quotes = literal.isQuoted ? 1 : 0;
    const { line, column } = source.getLineAndColumnAtPos(literal.node.getStart());
    const length = literal.node.getWidth() - 2 * quotes;
    return { line, column: column + quotes, text: lines[line - 1]!, length };
  }
  const { line, column } = call ? source.getLineAndColumnAtPos(calleeOf(call).getStart()) : issue.at;
  const text = lines[line - 1];
  return text === undefined
    ? null
    : { line, column, text, length: /^\w*/.exec(text.slice(column - 1))![0].length };
}

/** The call at the issue's site; by its name where a loader that keeps no source map left line 0. */
function callOf(source: SourceFile, issue: Issue): CallExpression | null {
  const { SyntaxKind } = createRequire(import.meta.url)('ts-morph') as typeof import('ts-morph');
  const { line, column } = issue.at;
  const calls = source.getDescendantsOfKind(SyntaxKind.CallExpression);
  const found = calls.find((call) => {
    if (line === 0) return isLiteral(call.getArguments()[0], issue.call);
    const callee = calleeOf(call);
    const start = source.getLineAndColumnAtPos(callee.getStart());
    // tsx maps a call of a method to the bracket behind its name.
    const isAt = start.column === column || start.column + callee.getWidth() === column;
    return start.line === line && isAt;
  });
  return found ?? null;
}

/** Where a call's site is: plan(...) is called at its first letter, cooperative.with(...) at `with`. */
function calleeOf(call: CallExpression): Node {
  const { Node } = createRequire(import.meta.url)('ts-morph') as typeof import('ts-morph');
  const callee = call.getExpression();
  return Node.isPropertyAccessExpression(callee) ? callee.getNameNode() : callee;
}

function isLiteral(node: Node | undefined, text: string): boolean {
  const { Node } = createRequire(import.meta.url)('ts-morph') as typeof import('ts-morph');
  return Node.isStringLiteral(node) && node.getLiteralValue() === text;
}

function literalIn(call: CallExpression, issue: Issue): { node: Node; isQuoted: boolean } | null {
  if (issue.argument === 'key' || issue.argument === 'value') return optionIn(call, issue);
  const { SyntaxKind } = createRequire(import.meta.url)('ts-morph') as typeof import('ts-morph');
  const [name, list, options] = call.getArguments();
  // Options of a stage are an object; a plan has a scheme: a call with options, or nothing.
  const property = (key: string) =>
    options?.getDescendantsOfKind(SyntaxKind.PropertyAssignment).find((one) => one.getName() === key) ??
    options?.asKind(SyntaxKind.ObjectLiteralExpression)?.getProperty(key);
  const places: Partial<Record<Issue['argument'], Node | undefined>> = { name, ops: list, scheme: options };
  const within = issue.argument in places ? places[issue.argument] : property(issue.argument);
  if (!within) return null;
  const nodes = [within, ...within.getDescendants()];
  switch (issue.argument) {
    case 'tokens': {
      const [node] = nodes.filter(
        (one) => one.isKind(SyntaxKind.NumericLiteral) || one.isKind(SyntaxKind.PrefixUnaryExpression),
      );
      return node ? { node, isQuoted: false } : null;
    }
    case 'scheme': {
      // The option's number where it is written, else the word before the options.
      const written = nodes.find(
        (one) => one.isKind(SyntaxKind.NumericLiteral) && String(one.getLiteralValue()) === issue.token,
      );
      const node = written ?? nodes.find((one) => one.isKind(SyntaxKind.CallExpression))?.getExpression();
      return node ? { node, isQuoted: false } : null;
    }
    default: {
      const literals = nodes.filter((one) => isLiteral(one, issue.token));
      const node = literals[issue.nth] ?? literals[0];
      return node ? { node, isQuoted: true } : null;
    }
  }
}

/** An option in the arguments of a call, or in the constant that one of them names. */
function optionIn(call: CallExpression, issue: Issue): { node: Node; isQuoted: boolean } | null {
  const { Node, SyntaxKind } = createRequire(import.meta.url)('ts-morph') as typeof import('ts-morph');
  const written = (node: Node): Node[] => {
    const constant = Node.isIdentifier(node) && call.getSourceFile().getVariableDeclaration(node.getText());
    const value = constant ? constant.getInitializer() : node;
    return value ? [value, ...value.getDescendantsOfKind(SyntaxKind.Identifier).flatMap(constantOf)] : [];
  };
  const constantOf = (node: Node): Node[] => {
    const isArgument = Node.isCallExpression(node.getParent()) || Node.isSpreadAssignment(node.getParent());
    const constant = isArgument && call.getSourceFile().getVariableDeclaration(node.getText());
    return constant ? [constant.getInitializer()].filter((value) => value !== undefined) : [];
  };
  // Options stand last, and alone where a scheme is called.
  const args = call.getArguments();
  const places = (args.length > 1 ? args.slice(1).reverse() : args).flatMap(written);
  for (const place of places) {
    const objects = [place, ...place.getDescendants()].filter((node) => Node.isObjectLiteralExpression(node));
    for (const property of objects.flatMap((object) => object.getProperties())) {
      if (Node.isShorthandPropertyAssignment(property) && property.getName() === issue.token) {
        return { node: property, isQuoted: false };
      }
      if (!Node.isPropertyAssignment(property)) continue;
      const name = property.getNameNode();
      if (name.getText().replaceAll(/^['"]|['"]$/g, '') !== issue.token) continue;
      const value = property.getInitializerOrThrow();
      const node =
        issue.argument === 'key' ? name : Node.isAsExpression(value) ? value.getExpression() : value;
      return { node, isQuoted: Node.isStringLiteral(node) };
    }
  }
  return null;
}
