// Builds the host code over the fake backend, and predicts in TypeScript what that backend says.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import koffi from 'koffi';
import { abiHeader } from '../../abi/header.ts';
import type { Manifest, Slot } from '../../abi/manifest.ts';
import { outputRoot } from '../../codegen/build/output-root.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { isBlocks } from '../../codegen/model/formats.ts';
import { abiVersion } from '../../runtime/engine/bindings.ts';
import { blockLayouts, bytesOfNumber } from './blocks.ts';

const host = join(packageRoot(), 'templates/host');
const fake = join(packageRoot(), 'test/native/host-fake');
const flags = [
  ...['-std=c++17', '-O2', '-fPIC', '-pthread', '-fvisibility=hidden'],
  ...['-Wall', '-Wextra', '-Werror'],
];

/** Tokens that make the fake backend misbehave; those below 256 are ordinary. */
export const tokens = {
  fail: 500,
  slow: 501,
  rogue: 502,
  refuse: 503,
  throws: 504,
  nan: 505,
  dear: 506,
} as const;
export const vocab = 512;
/** The most steps of a request to device 2. */
export const manySteps = 64;
const passTokens = 4;

export interface Fake {
  readonly path: string;
  readonly manifest: Manifest;
  /** The packed weights of the engine made last. */
  weights(): Uint8Array;
  /** Fills them with bytes that no test writes. */
  dirty(): void;
  mostOutstanding(): number;
  /** So many passes more; then they wait, until an engine is asked to stop or this is called again. */
  allow(passes: number): void;
  /** Most sequences that shared a pass. */
  mostRows(): number;
  /** Passes of several tokens of one sequence. */
  chunks(): number;
  /** Who drafts for the engine made last: the host, or the fake itself, always wrong or two of three right where text repeats after 5 tokens. */
  drafts(kind: 'usual' | 'garbage' | 'half'): void;
  /** Requests enqueued, passes run and steps waited for by the engine made last. */
  work(): { readonly requests: number; readonly passes: number; readonly waits: number };
  /** Times that the engine made last was given the counts for penalties. */
  counted(): number;
  /** After so many allocations more of an engine's thread one finds no memory. */
  exhaust(allocations: number): void;
  /** The same of the thread that calls. */
  exhaustCaller(allocations: number): void;
  /** Whether that one has come. */
  exhausted(): boolean;
  /** Backends created and not destroyed. */
  alive(): number;
}

/** A slot whose rows have another order than in the checkpoint has the rows of a head, and those that are rotated. */
export type FakeSlot = Slot & { readonly heads?: readonly [rows: number, rotated: number] };

/** The host code over the fake backend, with these weight slots; compiled once for all that ask. */
export async function buildFake(slots: readonly FakeSlot[]): Promise<Fake> {
  const weightBytes = bytesOf(slots);
  const path = await compileFake(slots);
  const library = koffi.load(path);
  const copyWeights: (out: Uint8Array, bytes: number) => void = library.func('fake_weights', 'void', [
    'void *',
    'int64_t',
  ]);
  const weights = () => {
    const bytes = new Uint8Array(weightBytes);
    copyWeights(bytes, weightBytes);
    return bytes;
  };
  const counter = (name: string): (() => number) => library.func(name, 'int32_t', []);
  const drafts: (kind: number) => void = library.func('fake_drafts', 'void', ['int32_t']);
  const allow: (passes: number) => void = library.func('fake_allow', 'void', ['int32_t']);
  const [requests, passes, waits] = ['fake_requests', 'fake_passes', 'fake_waits'].map(counter);
  const left = counter('fake_allocations_left');
  return {
    path,
    manifest: fakeManifest(slots, weightBytes),
    weights,
    dirty: library.func('fake_dirty', 'void', []),
    drafts: (kind) => drafts(['usual', 'garbage', 'half'].indexOf(kind)),
    mostOutstanding: counter('fake_most_outstanding'),
    allow: (passes) => allow(passes === Number.POSITIVE_INFINITY ? -1 : passes),
    mostRows: counter('fake_most_rows'),
    chunks: counter('fake_chunks'),
    work: () => ({ requests: requests!(), passes: passes!(), waits: waits!() }),
    counted: counter('fake_counted'),
    exhaust: library.func('fake_exhaust', 'void', ['int32_t']),
    exhaustCaller: library.func('fake_exhaust_caller', 'void', ['int32_t']),
    exhausted: () => left() < 0,
    alive: counter('fake_alive'),
  };
}

/** What the fake's backend knows of its model: the same for all slots. */
const sizesHeader = `#pragma once
constexpr int kPassTokens = ${passTokens};
constexpr int kVocab = ${vocab};
`;

function modelHeader(slots: readonly FakeSlot[]): string {
  const codeOf = (dtype: Slot['dtype']) =>
    isBlocks(dtype) ? blockLayouts[dtype].code : { bf16: 0, fp16: 1, fp32: 2 }[dtype];
  const rows = slots.map(
    ({ shape, offset, stride, dtype, heads = [] }) =>
      `{${[...shape, offset, stride, codeOf(dtype), ...heads].join(', ')}},`,
  );
  return [
    '#pragma once',
    '#include <cstdint>',
    '#include "sizes.h"',
    `constexpr int64_t kWeightBytes = ${bytesOf(slots)};`,
    'constexpr const char* kHash = "fake";',
    '#include "model_facts.h"',
    `constexpr WeightSlot kSlots[] = {\n  ${rows.join('\n  ')}\n};`,
    '',
  ].join('\n');
}

/** Path of the library: in a folder named by the hash of all that goes in. What does not know its slots is compiled once for all. */
export async function compileFake(slots: readonly FakeSlot[]): Promise<string> {
  const common = { 'abi.h': abiHeader(), 'sizes.h': sizesHeader };
  const sources = [join(host, 'library.cpp'), join(fake, 'backend.cpp')];
  const objects = await Promise.all(sources.map((file) => made(file, ['-c'], common)));
  // Its operator new stands in the way of the program's own for what is linked here alone.
  return made(join(host, 'model.cpp'), [...objects, '-shared', '-Wl,-Bsymbolic-functions'], {
    ...common,
    'model.h': modelHeader(slots),
  });
}

/** What the compiler makes of a source beside these headers: a file in a folder named by the hash of all that goes in. */
async function made(source: string, more: readonly string[], headers: Readonly<Record<string, string>>) {
  const files = [host, fake].flatMap((from) => readdirSync(from).map((name) => join(from, name)));
  const read = files.map((file) => readFileSync(file, 'utf8'));
  const key = createHash('sha256')
    .update(JSON.stringify([flags, basename(source), more, headers, read]))
    .digest('hex')
    .slice(0, 12);
  const folder = join(outputRoot(), `fake-${key}`);
  const path = join(folder, 'made');
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(headers)) writeFileSync(join(folder, name), text);
  // Another process may compile the same; each moves a whole file into its place.
  const part = `${path}.${process.pid}.tmp`;
  await promisify(execFile)('g++', [...flags, `-I${folder}`, `-I${host}`, source, ...more, '-o', part]);
  renameSync(part, path);
  return path;
}

const bytesOf = (slots: readonly Slot[]) => Math.max(...slots.map(endOf));

/** Byte after the last one of a slot, its padding included. */
function endOf({ shape: [rows, columns], offset, stride, dtype }: Slot): number {
  const width = Math.min(Math.ceil(columns / 32) * 32, stride);
  return offset + ((rows - 1) * stride + width) * bytesOfNumber(dtype);
}

export function fakeManifest(slots: readonly Slot[], weightBytes: number): Manifest {
  return {
    format: 3,
    abi: abiVersion,
    hash: 'fake',
    name: 'fake',
    model: 'fake',
    target: 'fake',
    kind: 'cpu',
    plan: 'fake',
    promptPlan: null,
    dims: {
      name: 'fake',
      family: 'llama',
      dtype: 'bf16',
      layers: 1,
      hidden: 1,
      ffn: 1,
      qHeads: 1,
      kvHeads: 1,
      headDim: 2,
      vocab,
      maxPositions: 1 << 20,
      normEps: 1e-6,
      ropeTheta: 1e4,
      ropeScaling: null,
      qkNorm: false,
      qkvBias: false,
      tiedHead: true,
      kinds: [{ name: 'layer', window: null, rope: true }],
      pattern: ['layer'],
    },
    passTokens,
    promptTokens: 0,
    roundings: { perLayer: 0, once: 0 },
    library: 'fake.so',
    libraryBytes: 1,
    librarySha256: '',
    paths: [],
    weightBytes,
    slots: [...slots],
    bytes: { weights: weightBytes, kvPerPosition: 1 },
    bandwidth: null,
    build: { compiler: 'g++', flags: [], recipe: '', millis: 0, resources: [] },
  };
}

/** The hash after each of ids, which stands for everything a model knows. */
export function fakeHashes(ids: readonly number[]): number[] {
  let hash = 0x811c9dc5;
  return ids.map((id) => {
    hash = Math.imul(hash ^ id, 2654435761) >>> 0;
    hash = (hash ^ (hash >>> 15)) >>> 0;
    return hash;
  });
}

/** What the fake model says after `ids`: n tokens. */
export function fakeReply(ids: readonly number[], n: number, seed = 0): number[] {
  const all = [...ids];
  for (let i = 0; i < n; i++) all.push(((fakeHashes(all).at(-1)! + seed) >>> 0) % 256);
  return all.slice(ids.length);
}

/** Its reply under a repetition penalty, which depends on how often each token occurred. */
export function fakePenalisedReply(ids: readonly number[], n: number): number[] {
  const all = [...ids];
  for (let i = 0; i < n; i++) all.push((all.reduce((sum, id) => sum + id + 1, 0) >>> 0) % 256);
  return all.slice(ids.length);
}

/** Its logits for the last of ids. */
export function fakeLogits(ids: readonly number[]): Float32Array {
  const hash = fakeHashes(ids).at(-1)!;
  return Float32Array.from({ length: vocab }, (_, j) => (hash ^ Math.imul(j, 2654435761)) & 0xffff);
}
