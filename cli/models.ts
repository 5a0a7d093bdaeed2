// gen models: what is known by name, what is here, and what could be fetched.
import type { ModelDims } from '../codegen/model/dims.ts';
import { OnelaunchError } from '../errors.ts';
import type { CachedModel } from '../hub/cache.ts';
import { helpEnd, outputCommand, type Program } from './flags.ts';
import { type Cell, type Start, table } from './ui.ts';

export function addModels(program: Program, start: Start): void {
  outputCommand(program, 'models')
    .description('list the models known by name, those in the Hub cache, and what could be fetched')
    .addHelpText('after', helpEnd('gen models', 'gen models --json'))
    .action((options) =>
      start(options, async (ui) => {
        const { known, others, unusable } = await listModels();
        if (ui.json) {
          ui.result([...known, ...others, ...unusable]);
          return 0;
        }
        const rows = [
          ...known.map((model) => rowOf(model, model.name)),
          ...others.map((model) => rowOf(model, model.hubId)),
        ];
        ui.data(table(header, rows));
        ui.note(
          '\nWithout files here, or incomplete: gen pull MODEL. Of other models: --model DIR, or gen pull ORG/NAME.',
        );
        if (unusable.length > 0) {
          ui.note(`In the Hub cache, but not for this package: ${unusable.length}; --json says why.`);
        }
        return 0;
      }),
    );
}

type Files =
  | 'bundled'
  | 'cached'
  /** A download that broke off: gen pull goes on with it. */
  | 'incomplete'
  | 'none';

interface ListedModel extends ModelDims {
  /** Of the packed weights. */
  readonly weightBytes: number;
  readonly bundled: boolean;
  readonly files: Files;
  readonly directory: string | null;
  /** ORG/NAME; null: not on the Hub. */
  readonly hubId: string | null;
  /** Of its files here. */
  readonly diskBytes: number;
}

/** Of the Hub cache, and not to be run. */
interface UnusableModel {
  readonly hubId: string;
  readonly diskBytes: number;
  readonly problem: string;
}

interface Listing {
  readonly known: readonly ListedModel[];
  /** Of the Hub cache, and known by no name. */
  readonly others: readonly ListedModel[];
  readonly unusable: readonly UnusableModel[];
}

async function listModels(): Promise<Listing> {
  const [
    { hubIds, models },
    { resolveModel },
    { readModelDims },
    { packWeights },
    { bytesOf, cachedModels },
  ] = await Promise.all([
    import('../configs/models.ts'),
    import('../configs/resolve-model.ts'),
    import('../codegen/model/read-config.ts'),
    import('../codegen/model/packing.ts'),
    import('../hub/cache.ts'),
  ]);
  const cached = new Map(cachedModels().map((model) => [model.id.toLowerCase(), model]));
  const take = (hubId: string | null) => {
    const found = cached.get(hubId?.toLowerCase() ?? '');
    cached.delete(found?.id.toLowerCase() ?? '');
    return found;
  };
  const listed = (dims: ModelDims, rest: Omit<ListedModel, keyof ModelDims | 'weightBytes' | 'bundled'>) => {
    const { bytes: weightBytes } = packWeights(dims);
    return { ...dims, weightBytes, bundled: rest.files === 'bundled', ...rest };
  };

  const known = models.map((dims) => {
    const hubId = hubIds.get(dims.name) ?? null;
    const found = take(hubId);
    if (found) return listed(dims, { ...hereOf(found, bytesOf(found)), hubId });
    const { directory } = resolveModel(dims.name);
    return listed(dims, { files: directory === null ? 'none' : 'bundled', directory, hubId, diskBytes: 0 });
  });
  const others: ListedModel[] = [];
  const unusable: UnusableModel[] = [];
  for (const found of cached.values()) {
    const { id: hubId, folder, snapshot } = found;
    const diskBytes = bytesOf(found);
    try {
      others.push(listed(readModelDims(snapshot ?? folder), { ...hereOf(found, diskBytes), hubId }));
    } catch (error) {
      if (!(error instanceof OnelaunchError)) throw error;
      unusable.push({ hubId, diskBytes, problem: error.message });
    }
  }
  return { known, others, unusable };
}

function hereOf({ missing, snapshot }: CachedModel, diskBytes: number) {
  if (missing === null) return { files: 'cached' as const, directory: snapshot, diskBytes };
  return { files: 'incomplete' as const, directory: null, diskBytes };
}

const header = [
  ...['model', 'layers', 'hidden', 'ffn', 'heads', 'kv', 'dim', 'vocab', 'positions', 'dtype', 'MB'],
  'files here',
];

/** @param name what --model takes */
function rowOf(model: ListedModel, name: string | null): Cell[] {
  const { layers, hidden, ffn, qHeads, kvHeads, headDim, vocab, maxPositions, dtype } = model;
  const onDisk = `${megabytes(model.diskBytes)} MB`;
  const files = { bundled: 'bundled', cached: onDisk, incomplete: `${onDisk}, incomplete`, none: '-' };
  return [
    ...[name, layers, hidden, ffn, qHeads, kvHeads, headDim, vocab, maxPositions, dtype],
    ...[megabytes(model.weightBytes), files[model.files]],
  ];
}

const megabytes = (bytes: number): number => Math.round(bytes / 1e6);
