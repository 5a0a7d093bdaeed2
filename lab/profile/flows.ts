// Who a block waited for: from a wait to the block that was last to make what it waited for.
import type { Schedule } from '../../codegen/schemes/index.ts';
import type { TrackEvent } from '../../runtime/engine/profile-events.ts';

export interface Flow {
  /** What is handed over: the words of an exchange, or `barrier`. */
  readonly name: string;
  /** The last that the maker did before it was there. */
  readonly from: TrackEvent;
  /** The wait. */
  readonly to: TrackEvent;
}

/** What a stage waits for: the stage that makes it, and what it is called. */
interface Source {
  readonly stage: number;
  readonly name: string;
}

/** The flows that end in the longest wait of each visit of a block to a stage. @param events of the tracks that stand for blocks */
export function flowsOf(schedule: Schedule, events: readonly TrackEvent[]): Flow[] {
  const sources = sourcesOf(schedule);
  const last = lastWork(events);
  return longestWaits(events).flatMap((wait) => {
    const makers = sources[wait.stage]!.flatMap((source) => {
      const from = last.get(key(source.stage, layerOf(schedule, source, wait), wait.position));
      return from && from.begin < wait.end && from.block !== wait.block ? [{ from, name: source.name }] : [];
    });
    const latest = makers.reduce<(typeof makers)[number] | null>(
      (a, b) => (a === null || b.from.end > a.from.end ? b : a),
      null,
    );
    return latest === null ? [] : [{ ...latest, to: wait }];
  });
}

/** At a barrier a stage waits for itself in other blocks; of an exchange, for its maker. */
function sourcesOf({ stages, syncs }: Schedule): Source[][] {
  const index = new Map(stages.map((stage, i) => [stage.name, i]));
  return stages.map((stage, own) =>
    syncs.flatMap((sync): Source[] => {
      if (sync.scope === 'grid')
        return sync.after.stage === stage.name ? [{ stage: own, name: 'barrier' }] : [];
      if (sync.scope !== 'exchange' || !sync.readers.includes(stage.name)) return [];
      const maker = index.get(sync.after.stage);
      return maker === undefined ? [] : [{ stage: maker, name: sync.words }];
    }),
  );
}

/** The layer in which what is waited for was made: that before it where the maker comes later in a layer. */
function layerOf({ stages, dims }: Schedule, source: Source, wait: TrackEvent): number {
  const maker = stages[source.stage]!;
  if (maker.part !== 'layer') return dims.layers;
  if (stages[wait.stage]!.part === 'end') return dims.layers - 1;
  return source.stage > wait.stage ? wait.layer - 1 : wait.layer;
}

const key = (stage: number, layer: number, position: number): string => `${stage} ${layer} ${position}`;

/** For each stage, layer and pass the work that ended last, of any block. */
function lastWork(events: readonly TrackEvent[]): Map<string, TrackEvent> {
  const found = new Map<string, TrackEvent>();
  for (const event of events) {
    if (event.phase === 'others' || event.phase === 'meet') continue;
    const at = key(event.stage, event.layer, event.position);
    const before = found.get(at);
    if (!before || event.end > before.end) found.set(at, event);
  }
  return found;
}

function longestWaits(events: readonly TrackEvent[]): TrackEvent[] {
  const found = new Map<string, TrackEvent>();
  for (const event of events) {
    if (event.phase !== 'others') continue;
    const at = `${event.block} ${key(event.stage, event.layer, event.position)}`;
    const before = found.get(at);
    if (!before || event.end - event.begin > before.end - before.begin) found.set(at, event);
  }
  return [...found.values()];
}
