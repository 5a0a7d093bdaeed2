// Every wrong invocation: its exit code, its exact first line, a hint, and never a stack trace.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { buildKernel } from '../../load.ts';
import { makeDirectory, tinyDirectory } from '../support/model-directory.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-flags-'));
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
  writeFileSync(at('empty.js'), 'export const nothing = 1;\n');
  writeFileSync(at('broken.json'), '{"cases": [');
  execFileSync('mkfifo', [at('pipe')]);
  writeFileSync(at('rootless.ebnf'), 'answer\n');
  symlinkSync('loop.ts', at('loop.ts'));
  writeFileSync(at('nothing.txt'), '');
  writeFileSync(at('latin1.txt'), Buffer.from([0x63, 0x61, 0x66, 0xe9]));
  writeFileSync(at('illegal.ts'), illegalPlan);
});
afterAll(() => rmSync(folder, { recursive: true }));

const illegalPlan = `
const at = { file: 'illegal.ts', line: 1, column: 1 };
export default { name: 'illegal', stages: [], scheme: { kind: 'barriers', prefetch: 0, tokens: 1 }, at };
`;

const tiny = ['--model', 'qwen3-tiny'];

/** Arguments, first line of stderr, and part of the hint. */
const cases: readonly (readonly [args: readonly string[], line: string, hint: string])[] = [
  [[], 'error: no --model given', 'gen build --model qwen3-tiny'],
  [['chat'], 'error: no --model given', 'gen chat --model qwen3-tiny'],
  [['bild'], "error: unknown command 'bild'", "did you mean 'build'?"],
  [['verfiy', ...tiny], "error: unknown command 'verfiy'", "did you mean 'verify'?"],
  [['xyzzy'], "error: unknown command 'xyzzy'", 'known: build, explain'],
  [['help', 'bild'], "error: unknown command 'bild'", "did you mean 'build'?"],
  [['--modle', 'qwen3-tiny'], "error: unknown option '--modle'", "did you mean '--model'?"],
  [['chat', ...tiny, '--top-k', '4'], "error: unknown option '--top-k'", "did you mean '--topK'?"],
  [
    ['build', ...tiny, '--target', 'h100', '--ship'],
    'error: ship is for a CPU, and h100 is a GPU',
    'leave it out',
  ],
  [['profile', ...tiny, '--launch', '2'], 'error: --launch is given, and no --prompt', '--launch 2'],
  [
    ['profile', ...tiny, '--prompt', '100'],
    'error: a prompt of 100 tokens has no launch: passes take it in',
    '--prompt-plan prefill',
  ],
  [
    ['profile', ...tiny, '--prompt', '100', '--sequences', '4', '--prompt-plan', 'prefill'],
    'error: --prompt and --sequences are both given',
    '--launch says which',
  ],
  [
    ['profile', ...tiny, '--prompt', '100', '--tokens', '4', '--prompt-plan', 'prefill'],
    'error: --prompt and --tokens are both given',
    '--launch says which',
  ],
  [['profile', ...tiny, '--blocks', '9'], 'error: --blocks is given without --trace or --html', 'give'],
  [
    ['profile', ...tiny, '--trace', at('p.html'), '--html', `${folder}/./p.html`],
    `error: --trace is '${at('p.html')}', and so is --html`,
    'another name',
  ],
  [['bench', '--reports', '--tokens', '4'], 'error: --reports has no use for --tokens', 'leave one'],
  [['bench', 'qwen3-tiny', '--reports'], 'error: --reports has no use for qwen3-tiny', 'leave one'],
  [['simulate', ...tiny, '--list-syncs', '--at', '4'], 'error: --list-syncs has no use for --at', 'leave'],
  [['calibrate', '--refit', at('x'), '--quick'], 'error: --refit has no use for --quick', 'leave one'],
  [
    ['calibrate', '--refit', at('broken.json'), '--out', at('broken.json')],
    `error: --out is '${at('broken.json')}', and so is --refit`,
    'another name',
  ],
  [
    ['calibrate', '--target', 'cpu', '--out', at('mine.v2')],
    `error: --out is '${at('mine.v2')}', must be a .json file: --target takes no other`,
    `--out ${at('mine')}.json`,
  ],
  [
    ['quality', ...tiny, '--text', at('latin1.txt')],
    `error: ${at('latin1.txt')} is not text in UTF-8`,
    'iconv',
  ],
  [
    ['quality', ...tiny, '--text', at('nothing.txt')],
    `error: ${at('nothing.txt')} has 0 tokens that count, 4096 are asked for`,
    'longer text',
  ],
  [
    ['chat', ...tiny, 'x', '--grammar', at('latin1.txt')],
    `error: ${at('latin1.txt')} is not text in UTF-8`,
    'iconv',
  ],
  [['bench', ...tiny, '--frobnicate'], "error: unknown option '--frobnicate'", 'gen bench --help lists'],
  [['build', '--model'], "error: option '-m, --model <name|dir>' argument missing", 'gen build --help'],
  [
    ['build', ...tiny, 'chat'],
    "error: too many arguments for 'build'. Expected 0 arguments but got 1.",
    'hint: gen build --help',
  ],
  [
    ['build', 'qwen3-tiny'],
    "error: 'qwen3-tiny' stands behind gen build without a flag",
    'gen build --model qwen3-tiny',
  ],
  [['qwen3-tiny'], "error: 'qwen3-tiny' is a model, and no command stands before it", 'gen chat qwen3-tiny'],
  [['chat', ...tiny, '--temp', '1'], "error: unknown option '--temp'", "did you mean '--temperature'?"],
  [['bench', ...tiny, '--randomWeights'], "error: unknown option '--randomWeights'", "'--random-weights'?"],
  [[...tiny, 'chat'], "error: flags stand before the command 'chat'", 'gen chat --model qwen3-tiny'],
  [
    ['--quiet', 'explore', 'qwen3-tiny', '--vary', 'prefetch=0'],
    "error: flags stand before the command 'explore'",
    'gen explore --quiet qwen3-tiny --vary',
  ],
  [
    ['complete', ...tiny, '--prompt', 'a', 'kernel'],
    "error: the prompt is given twice: --prompt 'a' and 'kernel'",
    'quote a text',
  ],
  [
    ['complete', 'qwen3-tiny', 'a', 'kernel'],
    "error: too many arguments for 'complete'. Expected 2 arguments but got 3.",
    'quote a text',
  ],
  [
    ['explain', 'qwen3-tiny', ...tiny],
    "error: the model is given twice: --model 'qwen3-tiny' and 'qwen3-tiny'",
    'hint: give one of them',
  ],
  [
    ['explain', 'qwen3-tiny', 'qwen3-0.6b'],
    "error: too many arguments for 'explain'. Expected 1 argument but got 2.",
    'hint: gen explain --help',
  ],
  [['--model', 'qwen3-tinny'], "error: unknown model 'qwen3-tinny'", "did you mean 'qwen3-tiny'?"],
  [['--model', '/nowhere/model'], 'error: no directory /nowhere/model', 'config.json'],
  [['--model', folder], `error: no config.json in ${folder}`, 'Hugging Face'],
  [[...tiny, '--target', 'h1000'], "error: unknown target 'h1000'", "did you mean 'h100'?"],
  [
    [...tiny, '--target', 'cpu', '--plan', 'cooperativ'],
    "error: unknown plan 'cooperativ'",
    "did you mean 'cooperative'?",
  ],
  [
    [...tiny, '--target', 'cpu', '--plan', './nowhere.ts'],
    'error: no plan file ./nowhere.ts',
    'default export',
  ],
  [
    ['chat', '--model', 'qwen3-0.6b', '--target', 'cpu', '-p', 'x'],
    'error: there are no weights of qwen3-0.6b here',
    'directory of its checkpoint',
  ],
  [
    ['verify', '--model', 'qwen3-0.6b', '--target', 'cpu'],
    'error: there are no weights of qwen3-0.6b here',
    'directory of its checkpoint',
  ],
  [
    ['bench', 'qwen3-0.6b'],
    'error: there are no weights of qwen3-0.6b here',
    'measure with --random-weights',
  ],
  [
    ['chat', ...tiny, '--context', 'many'],
    "error: --context is 'many', must be a whole number from 1 to 16777216",
    '--context 2048',
  ],
  [
    ['chat', ...tiny, '--context', '0'],
    "error: --context is '0', must be a whole number from 1 to 16777216",
    '--context 2048',
  ],
  [
    ['chat', ...tiny, '--context', '1.5'],
    "error: --context is '1.5', must be a whole number from 1 to 16777216",
    '--context 2048',
  ],
  [
    ['chat', ...tiny, '--threads', '-1'],
    "error: --threads is '-1', must be a whole number from 1 to 1024",
    '--threads 2',
  ],
  [
    ['chat', ...tiny, '--temperature', 'hot'],
    "error: --temperature is 'hot', must be a number of 0 or more",
    '--temperature 0.7',
  ],
  [
    ['chat', ...tiny, '--topP', '0'],
    "error: --topP is '0', must be a number above 0 and up to 1",
    '--topP 0.9',
  ],
  [
    ['chat', ...tiny, '--topP', '1.1'],
    "error: --topP is '1.1', must be a number above 0 and up to 1",
    '--topP 0.9',
  ],
  [
    ['chat', ...tiny, '--minP', '-0.1'],
    "error: --minP is '-0.1', must be a number from 0 to 1",
    '--minP 0.05',
  ],
  [
    ['chat', ...tiny, '--maxTokens', '0'],
    "error: --maxTokens is '0', must be a whole number from 1 to 2147483647",
    '--maxTokens 256',
  ],
  [
    ['chat', ...tiny, '--seed', '1e3'],
    "error: --seed is '1e3', must be a whole number from 0 to 9007199254740991",
    '--seed 42',
  ],
  [
    ['chat', ...tiny, '--presencePenalty', '5'],
    "error: --presencePenalty is '5', must be a number from -2 to 2",
    '--presencePenalty 0.5',
  ],
  [
    ['chat', ...tiny, '--frequencyPenalty', '-3'],
    "error: --frequencyPenalty is '-3', must be a number from -2 to 2",
    '--frequencyPenalty 0.5',
  ],
  ...['5', '5:', '5:101', 'a:1', '5:1;6:2'].map(
    (bias) =>
      [
        ['chat', ...tiny, '--logitBias', bias],
        `error: --logitBias is '${bias}', must be token ids with their biases from -100 to 100, between commas`,
        '--logitBias 11:-100,220:2.5',
      ] as const,
  ),
  [
    ['complete', ...tiny, '--topLogprobs', '21'],
    "error: --topLogprobs is '21', must be a whole number from 0 to 20",
    '--topLogprobs 5',
  ],
  [
    ['complete', ...tiny, 'x', '--topLogprobs', '2'],
    'error: --topLogprobs is for --json',
    'parts of its pieces',
  ],
  [
    ['explain', ...tiny, '--position', '-1'],
    "error: --position is '-1', must be a whole number from 0 to 16777215",
    '--position 1900',
  ],
  [
    ['explain', ...tiny, '--position', 'last'],
    "error: --position is 'last', must be a whole number from 0 to 16777215",
    '--position 1900',
  ],
  [
    ['explain', ...tiny, '--target', 'h100', '--position', '1024'],
    "error: --position is '1024', and the last position of qwen3-tiny is 1023",
    '--position 1023',
  ],
  [['chat', ...tiny, '--prompt', ''], 'error: the prompt is empty', '--prompt "What is a daemon?"'],
  [['complete', ...tiny], 'error: no --prompt given, and nothing on stdin', 'gen complete qwen3-tiny "A'],
  [['chat', 'qwen3-tiny'], 'error: no question: nothing is on stdin', 'gen chat qwen3-tiny "What'],
  [
    ['chat', ...tiny, '--lines', '-p', 'a'],
    'error: --lines reads questions from stdin, and --prompt is a question of its own',
    '--lines < questions.txt',
  ],
  [
    ['chat', ...tiny, '--file', '/nowhere/text'],
    'error: cannot read --file /nowhere/text: there is none',
    'give a file of text',
  ],
  [
    ['chat', ...tiny, '--file', folder],
    `error: cannot read --file ${folder}: it is a folder`,
    'give a file of text',
  ],
  [
    ['chat', ...tiny, '--file', at('latin1.txt')],
    `error: --file ${at('latin1.txt')} is not text in UTF-8`,
    'iconv',
  ],
  [
    ['chat', ...tiny, '--file', '/dev/zero'],
    'error: --file /dev/zero has more than 64 MiB',
    'fits the context of a model',
  ],
  [
    ['chat', ...tiny, '--file', at('pipe')],
    `error: cannot read --file ${at('pipe')}: it is a pipe`,
    `read it from stdin: < ${at('pipe')}`,
  ],
  [
    ['chat', ...tiny, '--stop', ''],
    "error: --stop is '', must be a text: an empty one would end every reply before it begins",
    '--stop',
  ],
  [
    ['chat', ...tiny, '--stopIds', '1,x'],
    "error: --stopIds is '1,x', must be whole numbers from 0 to 2147483647 between commas",
    '--stopIds 2,151645',
  ],
  [
    ['chat', ...tiny, '--enableThinking', 'no'],
    "error: --enableThinking is 'no', must be true or false",
    '--enableThinking false',
  ],
  [
    ['bench', ...tiny, '--positions', '1,x'],
    "error: --positions is '1,x', must be whole numbers from 1 to 16777216 between commas",
    '--positions 1,200,1900',
  ],
  [
    ['bench', ...tiny, '--runs', '0'],
    "error: --runs is '0', must be a whole number from 1 to 1000",
    '--runs 5',
  ],
  [
    ['chat', '--model', 'qwen3-0.6b', 'a', '--grammar', at('rootless.ebnf')],
    'error: the grammar cannot be used: EBNF parser error at line 1, column 1: The root rule with name "root" is not found',
    'EBNF such as: root',
  ],
  [
    ['chat', ...tiny, '--file', at('loop.ts')],
    `error: cannot read --file ${at('loop.ts')}: ELOOP`,
    'give a file of text',
  ],
  [
    ['verify', ...tiny, '--golden', at('loop.ts')],
    `error: ${at('loop.ts')} cannot be read: ELOOP`,
    'a golden file holds',
  ],
  [
    ['explain', ...tiny, '--plan', at('loop.ts')],
    `error: ${at('loop.ts')} cannot be used: it is a link that leads to itself`,
    'ls -l',
  ],
  [
    ['quantize', ...tiny, '--weights', 'int4', '--out', at('loop.ts')],
    `error: ${at('loop.ts')} is a link that leads nowhere`,
    '--out DIR',
  ],
  ...(
    [
      [folder, 'it is a folder'],
      [at('no/file'), 'its folder does not exist'],
      [at('latin1.txt/file'), 'what should be its folder is a file'],
      [at('loop.ts'), 'it is a link that leads to itself'],
      ['', 'no name'],
    ] as const
  ).flatMap(([file, why]) =>
    (
      [
        [['profile', ...tiny, '--html', file], 'html'],
        [['calibrate', '--out', file], 'out'],
        [['report', '--out', file], 'out'],
      ] as const
    ).map(
      ([args, flag]) =>
        [
          args,
          `error: --${flag} is '${file}', which cannot be written: ${why}`,
          `for example: --${flag} `,
        ] as const,
    ),
  ),
  [
    ['explore', ...tiny, '--vary', 'prefetch=0', '--out', at('no/best.ts')],
    `error: --out is '${at('no/best.ts')}', which cannot be written: its folder does not exist`,
    '--out best.ts',
  ],
  [
    ['verify', ...tiny, '--random-weights'],
    'error: --random-weights has nothing to compare with',
    '--golden FILE',
  ],
];

/** Of a reply: found out with the tokenizer, and nothing compiled. */
const ofReplies: typeof cases = [
  [
    ['chat', ...tiny, '--context', '8', '--prompt', 'a b c d e f g h'],
    'error: the prompt has 16 tokens, and the context holds 8, reply included',
    'at most 7 tokens',
  ],
  [
    ['complete', ...tiny, '--context', '4', '--prompt', 'a b c d e f g h'],
    'error: the prompt has 8 tokens, and the context holds 4, reply included',
    'at most 3 tokens',
  ],
  [
    ['chat', ...tiny, '--stop', 'a<|im_end|>', '--prompt', 'x'],
    'error: options.stop holds "a<|im_end|>", and <|im_end|> in it is a special token, which has no text',
    'Give the token alone',
  ],
  [
    ['complete', ...tiny, '--stopIds', '2,4096', '--prompt', 'x'],
    'error: options.stopIds has 4096, and the model has tokens below 4096',
    'tokenize(text)',
  ],
];

/** Those that are found out only with the library built. */
const built: typeof cases = [
  [
    ['bench', ...tiny, '--target', 'cpu', '--positions', '5000'],
    'error: 5101 positions are needed, the context holds 1024',
    'smaller --positions',
  ],
  [
    ['chat', ...tiny, '--target', 'cpu', '--context', '2048', '--prompt', 'x'],
    'error: a context of 2048 is more than qwen3-tiny was made for',
    'At most 1024',
  ],
  [
    ['verify', ...tiny, '--target', 'cpu', '--golden', '/nowhere/golden.json'],
    'error: cannot read the golden file /nowhere/golden.json',
    'a golden file holds',
  ],
  [['verify', ...tiny, '--target', 'cpu', '--golden', at('broken.json')], '', 'a golden file holds'],
  [
    ['diff', 'cooperative', 'unfused', ...tiny, '--target', 'cpu', '--positions', '1,1024'],
    "error: --positions is '1024', and the last position of qwen3-tiny is 1023",
    '--positions 1023',
  ],
  [
    ['verify', ...tiny, '--target', 'cpu', '--context', '16'],
    'error: a case of the golden file has 96 tokens, the context holds 16',
    '--context 96',
  ],
];

async function outcome(args: readonly string[]) {
  const { io, written } = memoryIo();
  const code = await run(args, io);
  const lines = written.err.split('\n');
  const first = lines.findIndex((line) => line.startsWith('error: '));
  return {
    code,
    out: written.out,
    line: lines[first] ?? '',
    rest: lines.slice(first + 1).join('\n'),
    written,
  };
}

async function expectRefusal(args: readonly string[], line: string, hint: string) {
  const { code, out, line: first, rest, written } = await outcome(args);
  if (line !== '') expect(first).toBe(line);
  expect(rest).toMatch(/^hint: /);
  expect(rest).toContain(hint);
  expect(rest).not.toMatch(/^\s+at /m);
  expect(rest.includes('--random-weights'), 'advice that the command cannot take').toBe(
    args[0] === 'bench' && hint.includes('random'),
  );
  expect(code).toBe(2);
  expect(out).toBe('');
  return written;
}

describe('gen', () => {
  it.each([...cases, ...built])('%j is refused in one line with a hint', async (...refused) => {
    await expectRefusal(...refused);
  });
  it.each(ofReplies)('%j is refused before anything is compiled', async (args, line, hint) => {
    const written = await expectRefusal(args, line, hint);
    expect(written.err).toMatch(/^error: /);
  });

  it.each(['banana', '7', '1.5'])('ONELAUNCH_DEBUG=%s is refused in one line with a hint', async (level) => {
    const { io, written } = memoryIo();
    const code = await run(['models'], { ...io, env: { ...io.env, ONELAUNCH_DEBUG: level } });
    expect(code).toBe(2);
    expect(written.err).toBe(
      `error: ONELAUNCH_DEBUG is '${level}', must be 0 to 6\nhint: ONELAUNCH_DEBUG=1 shows files and times, each level to 6 one layer more\n`,
    );
  });

  it.each(['bench', 'verify', 'quality'])(
    "%s keeps no figures of poll delays that are not the target's",
    async (command) => {
      vi.stubEnv('ONELAUNCH_POLL_CYCLES', '1200');
      const line =
        'error: --report is given, and ONELAUNCH_POLL_CYCLES is set: its figures are not those of the target';
      await expectRefusal([command, ...tiny, '--report'], line, 'unset it');
      vi.unstubAllEnvs();
    },
  );

  it('does not send its user into the file of a plan that ships and does not fit', async () => {
    const config = JSON.parse(readFileSync(join(tinyDirectory, 'config.json'), 'utf8')) as object;
    const wide = makeDirectory({
      'config.json': { ...config, hidden_size: 65536, intermediate_size: 262144 },
    });
    const args = ['explain', '--model', wide, '--target', 'h100', '--plan', 'cooperative'];
    const { code, line, rest } = await outcome(args);
    expect({ code, line }).toEqual({
      code: 2,
      line: 'error: the plan does not fit this model on this target, 1 issue',
    });
    expect(rest).toMatch(
      /^ {2}cooperative: a pass of 1 token needs \d+ KiB of shared memory a block, and h100 has 227$/m,
    );
    expect(rest).not.toMatch(/\.ts|change what is marked/);
  });

  it('names the file that puts the stages of a plan that ships together as none can be', async () => {
    const file = at('turned.ts');
    const shipped = join(packageRoot(), 'configs', 'plans', 'cooperative.ts');
    writeFileSync(
      file,
      [
        "import { plan } from 'onelaunch/codegen';",
        `import shipped from '${shipped}';`,
        "export default plan('turned', shipped.stages.toReversed(), shipped.scheme);",
      ].join('\n'),
    );
    const { code, line, rest } = await outcome([...tiny, '--target', 'cpu', '--plan', file]);
    expect({ code, line }).toEqual({
      code: 2,
      line: 'error: the plan is illegal, or does not fit this model on this target, 14 issues',
    });
    expect(rest).toMatch(/^hint: change what \S*turned\.ts makes of a plan that ships/m);
  });

  it('refuses a plan file without a plan, and a plan without stages', async () => {
    for (const file of ['empty.js', 'illegal.ts']) {
      const { code, line, rest } = await outcome([...tiny, '--target', 'cpu', '--plan', at(file)]);
      expect(line).toMatch(/^error: /);
      expect(rest).not.toMatch(/^\s+at /m);
      expect(code).toBe(2);
    }
  });

  it('says in JSON what it says in words', async () => {
    const { code, out, written } = await outcome(['chat', ...tiny, '--topP', '7', '--json']);
    expect(JSON.parse(out)).toEqual({
      error: {
        name: 'OnelaunchError',
        message: "--topP is '7', must be a number above 0 and up to 1",
        hint: 'for example: --topP 0.9',
        kind: 'usage',
        exitCode: 2,
      },
    });
    expect(code).toBe(2);
    expect(written.err).toBe('');
  });
});
