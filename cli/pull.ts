// gen pull: a model from the Hugging Face Hub into its cache, where Python tools find it too.
import { OnelaunchError } from '../errors.ts';
import type { Pulled } from '../hub/pull.ts';
import type { Repo } from '../hub/repo.ts';
import type { Hub } from '../hub/request.ts';
import { sizeText } from '../hub/size-text.ts';
import { helpEnd, outputCommand, type Program } from './flags.ts';
import { type Start, seconds, type Ui } from './ui.ts';

export function addPull(program: Program, start: Start): void {
  outputCommand(program, 'pull')
    .description('fetch a model from the Hugging Face Hub, into its cache')
    .argument('<model>', 'ORG/NAME, as on huggingface.co, or a known name (see gen models)')
    .optionsGroup('Files:')
    .option('--revision <name>', 'branch, tag or commit (default: main)')
    .option('--dir <folder>', 'plain files in a folder (default: the Hub cache)')
    .addHelpText(
      'after',
      `
What is here is not fetched again, and what broke off is gone on with. Every file is checked against its hash.
HF_TOKEN is for models with terms to accept, HF_HUB_CACHE and HF_HOME say where the cache is, HF_ENDPOINT names a mirror.
${helpEnd('gen pull Qwen/Qwen3-0.6B', 'gen pull Qwen/Qwen3-0.6B --dir models/qwen3')}`,
    )
    .action((model, options) =>
      start(options, async (ui) => {
        const { hubSettings } = await import('../hub/settings.ts');
        const progress = ui.progress(`fetching ${model}`);
        const hub: Hub = {
          ...hubSettings(ui.io.env),
          signal: ui.io.signal,
          onWait: (why, millis) => progress.update(null, `${why}; again in ${seconds(millis)}`),
        };
        const started = performance.now();
        const bar = barOf(progress);
        try {
          const pulled = await pullModel(ui, hub, { model, ...options, bar });
          progress.end();
          tell(ui, pulled, { millis: performance.now() - started, isFolder: options.dir !== undefined });
          return 0;
        } catch (error) {
          progress.end();
          const { total, here } = bar.state;
          if (ui.io.signal.aborted && total > 0) {
            ui.note(`${sizeText(here)} of ${sizeText(total)} are here: the same command goes on from there`);
          }
          throw error;
        }
      }),
    );
}

type Bar = ReturnType<typeof barOf>;
interface Asked {
  readonly model: string;
  readonly revision?: string | undefined;
  readonly dir?: string | undefined;
  readonly bar: Bar;
}

async function pullModel(ui: Ui, hub: Hub, { model, revision, dir, bar }: Asked): Promise<Pulled> {
  const [
    { pull },
    { hubCache },
    { hubIds },
    { knownIds, modelNames },
    { parseDims },
    { modelName },
    { didYouMean },
    { hubIdIn },
  ] = await Promise.all([
    import('../hub/pull.ts'),
    import('../hub/settings.ts'),
    import('../configs/models.ts'),
    import('../configs/resolve-model.ts'),
    import('../codegen/model/parse-dims.ts'),
    import('../codegen/model/read-config.ts'),
    import('../codegen/plan/did-you-mean.ts'),
    import('../hub/id.ts'),
  ]);
  const id = hubIds.get(model.toLowerCase()) ?? model;
  if (modelNames().includes(id)) {
    throw new OnelaunchError('usage', `${id} comes with the package`, { hint: `gen chat --model ${id}` });
  }
  return await pull(hub, {
    ...{ id, revision, directory: dir, cache: hubCache(ui.io.env) },
    suggest: (name) => {
      const meant = hubIdIn(name);
      return meant === null
        ? didYouMean(name, [...knownIds(), ...hubIds.keys()])
        : `did you mean '${meant}'? A revision is given by --revision; `;
    },
    check: (config, name) => void parseDims(parse(config, name), modelName(name)),
    onBegin: (repo, bytes) => begin(ui, id, repo, bytes),
    onBytes: bar.update,
  });
}

function parse(config: string, id: string): unknown {
  try {
    return JSON.parse(config);
  } catch {
    throw new OnelaunchError('usage', `config.json of ${id} is not valid JSON`, {
      hint: 'It is broken on the Hub: try an earlier --revision.',
    });
  }
}

function begin(ui: Ui, id: string, repo: Repo, { total, here }: { total: number; here: number }): void {
  if (repo.id.toLowerCase() !== id.toLowerCase()) ui.warn(`${id} is called ${repo.id} now`);
  const rest = here === 0 ? '' : here === total ? ', all here' : `, ${sizeText(here)} of them here`;
  ui.note(`${repo.id} at ${repo.commit.slice(0, 12)}: ${sizeText(total)}${rest}`);
}

/** Share, rate and time left, over the bytes that came since the begin. */
function barOf(progress: ReturnType<Ui['progress']>) {
  const state = { total: 0, here: 0 };
  let first: { readonly here: number; readonly millis: number } | null = null;
  return {
    state,
    update: (here: number, total: number) => {
      Object.assign(state, { total, here });
      first ??= { here, millis: performance.now() };
      const elapsed = (performance.now() - first.millis) / 1000;
      const rate = elapsed > 1 ? Math.max(0, here - first.here) / elapsed : 0;
      const left = rate > 0 ? `, ${megabytes(rate)} MB/s, ${time((total - here) / rate)} left` : '';
      progress.update(here / total, `${sizeText(here)} of ${sizeText(total)}${left}`);
    },
  };
}

function tell(
  ui: Ui,
  pulled: Pulled,
  { millis, isFolder }: { readonly millis: number; readonly isFolder: boolean },
): void {
  if (ui.json) ui.result({ ...pulled, millis });
  else ui.data(pulled.directory);
  const model = isFolder ? pulled.directory : pulled.id;
  if (pulled.fetchedBytes > 0)
    ui.note(`${sizeText(pulled.fetchedBytes)} fetched and checked in ${seconds(millis)}`);
  ui.note(`Next: gen chat --model ${model}`);
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
const time = (left: number): string =>
  left < 100 ? `${Math.ceil(left)} s` : `${Math.floor(left / 60)} min ${Math.ceil(left % 60)} s`;
