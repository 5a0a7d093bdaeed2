// What a model's files say twice, otherwise or not at all, is read as transformers reads it, and told where that is not what they seem to say.
import { describe, expect, test } from 'vitest';
import { preflight } from '../../preflight.ts';
import { changedModels, firstRows, fixture, rewrite } from '../support/changed-models.ts';

const { whole, copyOf } = changedModels('loads');

describe('as transformers loads it', () => {
  const micro = fixture('qwen3-micro');
  const check = (model: string) => preflight({ model, target: 'cpu' }, { weights: true });
  const embedding = 'model.embed_tokens.weight';

  test('a head like the embedding is tied, and one that differs is used and told', async () => {
    const same = rewrite(copyOf(micro), (tensors) => ({ ...tensors, 'lm_head.weight': tensors[embedding]! }));
    expect(await check(same)).toMatchObject({ dims: { tiedHead: true }, notes: [] });
    const other = rewrite(copyOf(micro), (tensors) => {
      const { data, ...rest } = tensors[embedding]!;
      const changed = Buffer.from(data);
      changed[changed.length - 1]! ^= 1;
      return { ...tensors, 'lm_head.weight': { ...rest, data: changed } };
    });
    const { dims, notes } = await check(other);
    expect(dims.tiedHead).toBe(false);
    expect(notes).toEqual([expect.stringContaining('lm_head.weight in ')]);
    expect(notes[0]).toContain('differs from the embedding');
  });

  test('tied weights that are stored as the head are the embedding too', async () => {
    const folder = rewrite(copyOf(micro), ({ [embedding]: matrix, ...rest }) => ({
      ...rest,
      'lm_head.weight': matrix!,
    }));
    const { dims, files } = await check(folder);
    expect(dims.tiedHead).toBe(true);
    expect(files.tensors!.get(embedding)).toBe(files.tensors!.get('lm_head.weight'));
  });

  test('tensors of a model saved without its head have no prefix', async () => {
    const folder = rewrite(copyOf(micro), (tensors) =>
      Object.fromEntries(
        Object.entries(tensors).map(([name, tensor]) => [name.replace(/^model\./, ''), tensor]),
      ),
    );
    const bare = await check(folder);
    const whole = await check(micro);
    expect([...bare.files.tensors!.keys()].sort()).toEqual([...whole.files.tensors!.keys()].sort());
  });

  test('a token without a row is told where no template writes it', async () => {
    const folder = rewrite(copyOf(whole, { 'config.json': { vocab_size: 2 } }), firstRows);
    const { notes } = await preflight(
      { model: folder, target: 'cpu' },
      { weights: true, tokenizer: 'needed' },
    );
    expect(notes.some((note) => note.includes('<|im_end|> (2)') && note.includes('has 2 rows'))).toBe(true);
  });

  test('what generation_config says that cannot be is a note', async () => {
    const folder = copyOf(whole, {
      'generation_config.json': { eos_token_id: 99_999, top_k: -1, do_sample: false },
    });
    const { notes, files } = await preflight({ model: folder, target: 'cpu' }, { tokenizer: 'needed' });
    expect(notes).toEqual([
      expect.stringContaining('eos_token_id 99999 is ignored: the model has tokens 0 to 511'),
    ]);
    expect(files.defaults).toMatchObject({ stopIds: [2], topK: 0 });
  });

  test('two spellings of a setting in config.json that disagree are a note', async () => {
    const folder = copyOf(whole, { 'config.json': { rope_theta: 5 } });
    const { notes, dims } = await preflight({ model: folder, target: 'cpu' }, {});
    expect(dims.ropeTheta).toBe(1e6);
    expect(notes).toEqual([
      expect.stringMatching(/config.json: rope_parameters.rope_theta is 1000000 and rope_theta is 5: /),
    ]);
  });
});
