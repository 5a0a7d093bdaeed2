// Wrong options of a server are refused before it listens, in a line with a hint.
import { describe, expect, it } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';

const wrong: readonly (readonly [flag: string, value: string, says: string])[] = [
  ['--context', '0', "--context is '0'"],
  ['--context', '1025', 'a context of 1025 is more than qwen3-tiny was made for'],
  ['--threads', '0', "--threads is '0'"],
  ['--device', '-1', "--device is '-1'"],
  ['--target', 'nothing', "unknown target 'nothing'"],
  ['--plan', 'nothing', "unknown plan 'nothing'"],
  ['--prompt-plan', 'nothing', "unknown prompt plan 'nothing'"],
  ['--prompt-plan', 'prefill', 'the plan does not fit this model on this target'],
  ['--weights', 'int3', "--weights is 'int3'"],
  ['--cache', 'int3', "--cache is 'int3'"],
  ['--model', 'nothing', 'the model is given twice'],
  ['--host', '', "--host is ''"],
  ['--host', 'nowhere.invalid', 'nowhere.invalid is no address of this machine'],
  ['--port', '65536', "--port is '65536'"],
  ['--api-key', '', 'the API key is empty'],
  ['--api-key', 'schl\u00fcssel', 'the API key has other characters'],
  ['--served-model-name', ' ', "--served-model-name is ' '"],
  ['--cors-origin', 'example.com', "--cors-origin is 'example.com'"],
  ['--cors-origin', 'https://example.com/', "--cors-origin is 'https://example.com/'"],
  ['--cors-origin', 'null', "--cors-origin is 'null'"],
  ['--cors-origin', '', "--cors-origin is ''"],
  ['--parallel', '17', "--parallel is '17'"],
  ['--queue', '-1', "--queue is '-1'"],
  ['--queue-timeout', '0s', "--queue-timeout is '0s'"],
  ['--reply-timeout', '10', "--reply-timeout is '10'"],
  ['--drain-timeout', 'soon', "--drain-timeout is 'soon'"],
  ['--body-limit', '0', "--body-limit is '0'"],
];

describe('gen serve with a wrong value', () => {
  it.each(wrong)('is refused before it listens: %s %s', async (flag, value, says) => {
    const { io, written } = memoryIo();
    const target = flag === '--target' ? [] : ['--target', 'cpu'];
    const code = await run(['serve', 'qwen3-tiny', '--port', '0', ...target, flag, value], io);
    expect(code).toBe(2);
    expect(written.out).toBe('');
    expect(written.err.split('\n')[0]).toContain(`error: ${says}`);
    expect(written.err).toContain('hint: ');
    expect(written.err).not.toContain('/health');
  });
});

it('gen serve ends where Ctrl-C came before it listened for it', async () => {
  const signal = AbortSignal.abort(new DOMException('interrupted', 'AbortError'));
  const { io, written } = memoryIo({ signal });
  expect(await run(['serve', 'qwen3-tiny', '--target', 'cpu', '--port', '0'], io)).toBe(130);
  expect(written.err).not.toContain('ready: ');
});
