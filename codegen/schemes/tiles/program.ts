// What every block of a launch reads and writes, from a reading of the templates of its own: the independent checks walk it.
import type { OpName } from '../../model/graph.ts';
import { normOf, productOf } from '../../model/ops.ts';
import { twoLayers } from '../../schedule/syncs.ts';
import { columnsOf, rowsOf } from '../independent-sizes.ts';
import type { TileStage, TilesSchedule } from './schedule.ts';

/** Some tokens of some columns of a buffer; of the cache, and of `positions`, positions of heads, of one layer. */
export interface Region {
  readonly buffer: string;
  readonly tokens: readonly [first: number, end: number];
  readonly columns: readonly [first: number, end: number];
}

/** What one unit does: first all reads, then all writes. */
export interface Unit {
  readonly stage: string;
  readonly trip: number;
  readonly reads: readonly Region[];
  readonly writes: readonly Region[];
}

/** A unit of a block, or a barrier that it waits at. */
export type Step =
  | { readonly kind: 'unit'; readonly unit: Unit }
  | { readonly kind: 'meet'; readonly after: string };

export interface Machine {
  readonly blocks: number;
  /** Of the prompt, and those before it in the cache. */
  readonly tokens: number;
  readonly position: number;
}

const rowTile = 8;
/** Warps of a block that take tokens and heads one by one, and tokens of a unit of attention. */
const warps = 8;
const queryTile = 16 * warps;

/** The steps of a block; layers as `layers` numbers them. The head works on the last tokens. */
export function programOf(schedule: TilesSchedule, machine: Machine, block: number): Step[] {
  const first = schedule.stages.find(({ part }) => part === 'layer');
  return twoLayers(schedule.stages).flatMap(({ stage, trip }): Step[] => {
    const before = stage === first && schedule.unpacked ? unpackSteps(block, trip) : [];
    const units = unitsOf(schedule, machine, stage, trip)
      .filter((unit) => unit.block === block)
      .map((unit): Step => ({ kind: 'unit', unit: { ...unit, stage: stage.name, trip } }));
    const meets = schedule.syncs.some(({ after }) => after.stage === stage.name);
    const coded =
      schedule.readsCodes && stage.body === 'attend' ? cacheSteps(schedule, machine, block, trip) : [];
    return [...before, ...coded, ...units, ...(meets ? [{ kind: 'meet', after: stage.name } as const] : [])];
  });
}

/** Each block makes numbers of its share of a layer's matrices; a share is a token of `plain`, whatever the product. */
const unpackSteps = (block: number, trip: number): Step[] => [
  { kind: 'unit', unit: { stage: 'unpack', trip, reads: [], writes: [plainOf([block, block + 1])] } },
  { kind: 'meet', after: 'unpack' },
];

/** Each block has some of the prompt's tokens, whose keys and values become codes, and some of the positions before them, which become numbers. */
function cacheSteps({ dims }: TilesSchedule, machine: Machine, block: number, trip: number): Step[] {
  const { blocks, tokens, position } = machine;
  const columns: Region['columns'] = [0, 2 * dims.kvHeads];
  const at = (buffer: string, token: number): Region => ({ buffer, tokens: [token, token + 1], columns });
  const step = (reads: readonly Region[], writes: readonly Region[]): Step => ({
    kind: 'unit',
    unit: { stage: 'read_cache', trip, reads, writes },
  });
  const all = Array.from({ length: position + tokens }, (_, token) => token);
  return [
    ...all
      .filter((token) => token % blocks === block)
      .map((token) =>
        token < position
          ? step([at(`cache ${trip}`, token)], [at('positions', token)])
          : step([at('positions', token)], [at(`cache ${trip}`, token), at('positions', token)]),
      ),
    { kind: 'meet', after: 'read_cache' },
  ];
}

const plainOf = (tokens: Region['tokens']): Region => ({ buffer: 'plain', tokens, columns: [0, 1] });

interface Dealt extends Pick<Unit, 'reads' | 'writes'> {
  readonly block: number;
}

function unitsOf(schedule: TilesSchedule, machine: Machine, stage: TileStage, trip: number): Dealt[] {
  const { dims } = schedule;
  const { blocks, tokens, position } = machine;
  const all = (buffer: string, first: number, end: number): Region => ({
    buffer,
    tokens: [first, end],
    columns: [0, Number.MAX_SAFE_INTEGER],
  });
  const each = <T>(count: number, of: (i: number) => T): T[] =>
    Array.from({ length: count }, (_, i) => of(i));
  switch (stage.body) {
    case 'embed':
      return each(tokens, (token) => ({
        block: Math.floor(token / warps) % blocks,
        reads: [],
        writes: [
          all('x', token, token + 1),
          ...aheadOf(stage).map((buffer) => all(buffer, token, token + 1)),
        ],
      }));
    case 'norm': {
      const { result } = normOf(stage.op);
      return each(tokens, (token) => ({
        block: Math.floor(token / warps) % blocks,
        reads: [all('x', token, token + 1)],
        writes: [all(result, token, token + 1)],
      }));
    }
    case 'product': {
      const units = productUnits(schedule, machine, stage, trip);
      if (schedule.unpacked === null || stage.part !== 'layer') return units;
      return units.map((unit) => ({ ...unit, reads: [...unit.reads, plainOf([0, blocks])] }));
    }
    case 'heads':
      return each(tokens * dims.kvHeads, (unit) => headUnit(schedule, unit, machine, trip));
    case 'attend': {
      const tiles = Math.ceil(tokens / queryTile);
      return each(tiles * dims.qHeads, (unit): Dealt => {
        const turn = Math.floor(unit / blocks);
        const block = turn % 2 === 0 ? unit % blocks : blocks - 1 - (unit % blocks);
        const head = unit % dims.qHeads;
        const first = (tiles - 1 - Math.floor(unit / dims.qHeads)) * queryTile;
        const end = Math.min(first + queryTile, tokens);
        const kv = Math.floor(head / (dims.qHeads / dims.kvHeads));
        const columns = (width: number): Region['columns'] => [head * width, (head + 1) * width];
        return {
          block,
          reads: [
            { buffer: 'queries', tokens: [first, end], columns: columns(1) },
            ...positionsOf(schedule, trip, [0, position + end], kv),
          ],
          writes: [{ buffer: 'att', tokens: [first, end], columns: columns(dims.headDim) }],
        };
      });
    }
    default:
      return stage.body satisfies never;
  }
}

/** Where heads are left for attention: in the cache, or as numbers of one layer at a time. */
const positionsIn = ({ readsCodes }: TilesSchedule, trip: number): string =>
  readsCodes ? 'positions' : `cache ${trip}`;

/** The key and the value of a head: columns of keys, and behind them those of values. */
const positionsOf = (
  schedule: TilesSchedule,
  trip: number,
  tokens: Region['tokens'],
  head: number,
): Region[] =>
  [head, schedule.dims.kvHeads + head].map((column) => ({
    buffer: positionsIn(schedule, trip),
    tokens,
    columns: [column, column + 1],
  }));

/** Norm and rotation of the queries that share a key and a value, which go to the cache. */
function headUnit(schedule: TilesSchedule, unit: number, { blocks, position }: Machine, trip: number): Dealt {
  const { dims } = schedule;
  const token = Math.floor(unit / dims.kvHeads);
  const head = unit % dims.kvHeads;
  const group = dims.qHeads / dims.kvHeads;
  const tokens: Region['tokens'] = [token, token + 1];
  const qkv = (firstHead: number, count: number): Region => ({
    buffer: 'qkv',
    tokens,
    columns: [firstHead * dims.headDim, (firstHead + count) * dims.headDim],
  });
  const at = position + token;
  return {
    block: Math.floor(unit / warps) % blocks,
    reads: [qkv(head * group, group), qkv(dims.qHeads + head, 1), qkv(dims.qHeads + dims.kvHeads + head, 1)],
    writes: [
      { buffer: 'queries', tokens, columns: [head * group, (head + 1) * group] },
      ...positionsOf(schedule, trip, [at, at + 1], head),
    ],
  };
}

/** Tokens of a tile next to each other first, then rows. */
function productUnits(schedule: TilesSchedule, machine: Machine, stage: TileStage, trip: number): Dealt[] {
  const { dims } = schedule;
  const kernel = schedule.kernels[0]!;
  const { blocks, tokens } = machine;
  const { input, interleave } = productOf(stage.op);
  const rows = rowsOf(stage.op, dims) * interleave;
  const side = Math.ceil(kernel.rows[stage.op]! / rowTile) * rowTile;
  const tokenTiles = Math.ceil(tokens / kernel.tokens);
  const count = tokenTiles * Math.ceil(rows / side);
  return Array.from({ length: count }, (_, tile): Dealt => {
    const first = (tile % tokenTiles) * kernel.tokens;
    const row = Math.floor(tile / tokenTiles) * side;
    const within: Region['tokens'] = [first, Math.min(first + kernel.tokens, tokens)];
    const columns: Region['columns'] = [row / interleave, Math.min(row + side, rows) / interleave];
    if (stage.heads)
      return headRowsUnit(schedule, machine, stage, trip, tile % blocks, within, [
        row,
        Math.min(row + side, rows),
      ]);
    const result = resultOf(stage);
    const own: Region = { buffer: result, tokens: within, columns };
    return {
      block: tile % blocks,
      reads: [
        { buffer: input, tokens: within, columns: [0, columnsOf(stage.op, dims)] },
        ...(result === 'x' ? [own] : []),
        ...(stage.norm ? [{ buffer: 'squares', tokens: within, columns: [0, dims.hidden] as const }] : []),
      ],
      writes: [own, ...aheadOf(stage).map((buffer) => ({ ...own, buffer }))],
    };
  });
}

/** Heads of a tile of queries, keys and values: to the queries and the cache. */
function headRowsUnit(
  schedule: TilesSchedule,
  { position }: Machine,
  { norm }: TileStage,
  trip: number,
  block: number,
  tokens: Region['tokens'],
  rows: readonly [number, number],
): Dealt {
  const { dims } = schedule;
  const heads = [rows[0] / dims.headDim, rows[1] / dims.headDim] as const;
  const within = (first: number, count: number): Region['columns'] => [
    Math.max(heads[0], first) - first,
    Math.min(heads[1], first + count) - first,
  ];
  const at: Region['tokens'] = [position + tokens[0], position + tokens[1]];
  const [q, kv] = [dims.qHeads, dims.kvHeads];
  const writes: Region[] = [
    { buffer: 'queries', tokens, columns: within(0, q) },
    // Keys and values, as positionsOf has them.
    { buffer: positionsIn(schedule, trip), tokens: at, columns: within(q, 2 * kv) },
  ];
  return {
    block,
    reads: [
      { buffer: 'xn', tokens, columns: [0, dims.hidden] },
      ...(norm ? [{ buffer: 'squares', tokens, columns: [0, dims.hidden] as const }] : []),
    ],
    writes: writes.filter(({ columns }) => columns[0] < columns[1]),
  };
}

/** What a stage that makes the residual stream makes of it for a norm: products and squares, each where the stream is. */
const aheadOf = ({ ahead }: TileStage): string[] => (ahead ? [normOf(ahead).result, 'squares'] : []);

const results: Readonly<Partial<Record<OpName, string>>> = {
  qkv_proj: 'qkv',
  o_proj: 'x',
  gate_up: 'h',
  down_proj: 'x',
  lm_head: 'logits',
};

const resultOf = ({ op }: TileStage): string => results[op]!;
