// The peers of the benchmark: their protocol, the turns A B B A, and that one which cannot run is named with its reason.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { platform, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { type Asked, alone, inTurns, rowOf, type Work } from '../../bench/peers/measure.ts';
import { type Answer, PeerProcess, type Request } from '../../bench/peers/peer-process.ts';
import { systems } from '../../bench/peers/systems.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { timedTogether } from '../../lab/together.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-peers-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A peer whose process is these lines of JavaScript; `lines` are what it is asked. */
function peerOf(body: string): Promise<PeerProcess | { readonly missing: string }> {
  const file = join(folder, `peer-${readdirSync(folder).length}.mjs`);
  const head = `import { createInterface } from 'node:readline';
const say = (value) => console.log(JSON.stringify(value));
const lines = createInterface({ input: process.stdin });\n`;
  writeFileSync(file, head + body);
  return PeerProcess.start(process.execPath, [file]);
}

const hello = "say({ version: 'fake 1', variants: ['a', 'b'], device: 'none' });";

describe('a peer', () => {
  const decode: Request = { op: 'decode', variant: 'a', prompt: [1, 2], tokens: 2 };

  it('says what it is, and answers each request once, in order', async () => {
    const peer = await peerOf(`${hello}
for await (const line of lines) {
  const { prompt, tokens } = JSON.parse(line);
  say({ seconds: prompt.length, ids: Array(tokens).fill(prompt[0]) });
}`);
    if (!(peer instanceof PeerProcess)) throw new Error(peer.missing);
    expect(peer).toMatchObject({ version: 'fake 1', variants: ['a', 'b'], device: 'none' });
    expect(await peer.ask(decode)).toEqual({ seconds: 2, ids: [1, 1] });
    expect(await peer.ask({ ...decode, prompt: [7] })).toEqual({ seconds: 1, ids: [7, 7] });
    peer.close();
  });

  it.runIf(platform() === 'linux')('runs only while it has something to answer', async () => {
    const peer = await peerOf(`${hello}
for await (const line of lines) say({ seconds: 1, ids: [process.pid] });`);
    if (!(peer instanceof PeerProcess)) throw new Error(peer.missing);
    const answer = await peer.ask(decode);
    if ('error' in answer) throw new Error(answer.error);
    const [pid] = answer.ids;
    const state = () => /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
    await vi.waitFor(() => expect(state()).toBe('T'));
    expect(await peer.ask(decode)).toEqual(answer);
    peer.close();
    await vi.waitFor(() => expect(existsSync(`/proc/${pid}`)).toBe(false));
  });

  it.each([
    ["say({ missing: 'not installed: no module' }); lines.close();", 'not installed: no module'],
    ["console.error('first'); console.error('boom'); process.exit(3);", 'it ended: boom'],
    ['process.exit(0);', 'it ended without a word'],
    ['say({ hello: 1 }); lines.close();', 'it answered what is no answer'],
  ])('that cannot run says why: %s', async (body, why) => {
    expect(await peerOf(body)).toEqual({ missing: why });
  });

  it('that is no program is missing', async () => {
    expect(await PeerProcess.start(join(folder, 'nowhere'), [])).toEqual({
      missing: expect.stringContaining('ENOENT'),
    });
  });

  it('that dies while it is asked answers with why', async () => {
    const peer = await peerOf(`${hello}
for await (const line of lines) { console.error('out of memory'); process.exit(1); }`);
    if (!(peer instanceof PeerProcess)) throw new Error(peer.missing);
    expect(await peer.ask(decode)).toEqual({ error: 'it ended: out of memory' });
    expect(await peer.ask(decode)).toEqual({ error: 'it ended: out of memory' });
  });
});

describe('turns', () => {
  const work: Work = { kind: 'decode', position: 3, tokens: 10 };

  /** Answers with these seconds, one after the other, and writes its name down. */
  function fake(name: string, seconds: readonly number[], visits: string[]): Asked {
    const left = [...seconds];
    const ask = async (request: Request): Promise<Answer> => {
      visits.push(name);
      expect(request).toMatchObject({ op: 'decode', variant: 'v', prompt: [0, 1, 2] });
      const next = left.shift()!;
      return Number.isNaN(next) ? { error: 'broke' } : { seconds: next, ids: new Array<number>(10).fill(0) };
    };
    return { name, variant: 'v', version: '1', ask };
  }

  it('are A B B A behind one visit each that is thrown away, and the ratio is of each round', async () => {
    const visits: string[] = [];
    const ours = fake('A', [100, 1, 1, 2, 2], visits);
    const theirs = fake('B', [100, 2, 2, 8, 8], visits);
    const turns = await inTurns(ours, theirs, work, 2, (index) => index);
    expect(visits.join('')).toBe('ABABBAABBA');
    expect(turns).toEqual({ ours: [10, 10, 5, 5], theirs: [5, 5, 1.25, 1.25] });
    expect(rowOf(theirs, work, turns)).toEqual({
      ...{ peer: 'B', variant: 'v', version: '1', position: 3 },
      tokensPerSecond: { median: 3.125, least: 1.25, most: 5 },
      ratio: { median: 3, least: 2, most: 4 },
    });
  });

  it('of one alone are as many', async () => {
    const ids = (index: number) => index;
    expect(await alone(fake('A', [100, 1, 1, 2, 2], []), work, 2, ids)).toEqual([10, 10, 5, 5]);
    expect(await alone(fake('A', [1, Number.NaN], []), work, 2, ids)).toBe('broke');
  });

  it('end with the reason of the one that broke', async () => {
    const turns = await inTurns(
      fake('A', [1, 1], []),
      fake('B', [1, Number.NaN], []),
      work,
      2,
      (index) => index,
    );
    expect(turns).toEqual({ failed: 'theirs', why: 'broke' });
    const row = rowOf(fake('B', [], []), work, turns);
    expect(row).toMatchObject({ position: 3, tokensPerSecond: null, why: 'broke' });
  });
});

describe('several sequences', () => {
  /** A reply that says a token a turn of `turns`, or ends. */
  async function* reply(from: number, turns: { now: number }, length = Number.POSITIVE_INFINITY) {
    for (let made = 0; made < length; made++) {
      turns.now++;
      await Promise.resolve();
      yield [from + made];
    }
  }

  it('are timed from where all have begun to where each has made its tokens', async () => {
    const turns = { now: 0 };
    const late = async function* () {
      while (turns.now < 40) await Promise.resolve();
      yield* reply(100, turns);
    };
    const { ids, seconds } = await timedTogether([reply(0, turns), late()], 3, 'wall');
    expect(ids).toHaveLength(6);
    // The one that was there first had gone on meanwhile; what the other made first is what began the time.
    expect(ids[0]).toBeGreaterThan(30);
    expect(ids.slice(3)).toEqual([101, 102, 103]);
    expect(seconds).toBeGreaterThan(0);
  });

  it('of which one ends early have no figure', async () => {
    const turns = { now: 0 };
    await expect(timedTogether([reply(0, turns), reply(0, turns, 2)], 3, 'wall')).rejects.toThrow(
      'reply 1 ended before the others were timed',
    );
  });

  it('are a request of their own, and the figure is of all together', async () => {
    const work: Work = { kind: 'batch', position: 2, tokens: 5, sequences: 3 };
    const asked: Request[] = [];
    const one = (name: string): Asked => ({
      ...{ name, variant: 'v', version: '1' },
      ask: async (request) => {
        asked.push(request);
        return { seconds: 3, ids: new Array<number>(15).fill(0) };
      },
    });
    const turns = await inTurns(one('A'), one('B'), work, 1, (index) => index, 'processor');
    expect(turns).toEqual({ ours: [5, 5], theirs: [5, 5] });
    expect(asked[0]).toEqual({
      ...{ op: 'batch', variant: 'v', prompt: [0, 1], tokens: 5, sequences: 3, clock: 'processor' },
    });
    expect(rowOf(one('B'), work, turns)).toMatchObject({ position: 2, sequences: 3 });
  });
});

describe('the scripts in Python', () => {
  const scripts = join(packageRoot(), 'bench', 'peers', 'python');
  const hasPython = spawnSync('python3', ['--version']).status === 0;

  it('are one for each system that is named', () => {
    const names = Object.keys(systems).filter((name) => name !== 'llama.cpp');
    const wanted = names.map((name) => `${name.replace('-', '_')}_peer.py`);
    expect(
      readdirSync(scripts)
        .filter((file) => file.endsWith('_peer.py'))
        .sort(),
    ).toEqual(wanted.sort());
    if (!hasPython)
      return expect(hasPython, 'python3 is not here: its scripts were not compiled').toBe(false);
  });

  it.runIf(hasPython)('are Python', () => {
    const check = 'import ast, sys\nfor path in sys.argv[1:]: ast.parse(open(path).read(), path)';
    execFileSync('python3', [
      '-c',
      check,
      ...readdirSync(scripts)
        .filter((f) => f.endsWith('.py'))
        .map((f) => join(scripts, f)),
    ]);
  });

  it.runIf(hasPython)('say that a package is missing, and answer as the protocol wants', async () => {
    const script = join(folder, 'fake_peer.py');
    writeFileSync(
      script,
      `import sys
sys.path.insert(0, ${JSON.stringify(scripts)})
sys.dont_write_bytecode = True
from peer import Generating, serve
class Fake(Generating):
    version, device = "fake 2", "none"
    def __init__(self, options):
        print("libraries print what they like")
        if options.model == "none":
            import a_package_that_is_nowhere
    def generate(self, prompt, tokens):
        if not prompt: raise ValueError("no prompt\\nand more")
        return list(range(tokens))
serve(Fake)
`,
    );
    const args = (model: string) => [script, '--model', model, '--context', '8'];
    const missing = await PeerProcess.start('python3', args('none'));
    expect(missing).toEqual({ missing: "not installed: No module named 'a_package_that_is_nowhere'" });
    const peer = await PeerProcess.start('python3', args('some'));
    if (!(peer instanceof PeerProcess)) throw new Error(peer.missing);
    expect(peer).toMatchObject({ version: 'fake 2', variants: ['default'] });
    const prefill = { op: 'prefill', variant: 'default' } as const;
    expect(await peer.ask({ ...prefill, prompt: [1] })).toMatchObject({ ids: [0] });
    expect(await peer.ask({ ...prefill, prompt: [] })).toEqual({ error: 'ValueError: no prompt' });
    peer.close();
  });
});
