// Energy of a GPU, from the counter of its driver (NVML). The counter moves in steps: what is measured must last many of them.
import koffi from 'koffi';

/** The energy that a GPU has taken since its driver was loaded. */
export interface EnergyCounter {
  /** [J] */
  readonly joules: () => number;
  /** Longest time between two steps of the counter that was seen [ms]. */
  readonly resolutionMs: number;
}

export interface Energy {
  /** Of one run [J]. */
  readonly joules: number;
  readonly runs: number;
}

/** Where the driver's library lies on Linux. */
const libraryName = 'libnvidia-ml.so.1';
/** How long the steps of the counter are looked for [ms]. */
const watchMs = 500;
/** A measurement lasts so many steps: it is off by at most one in as many. */
const stepsOfRun = 20;
/** And never less [ms]. */
const leastRunMs = 1000;

/** The counter of a GPU; null where there is no NVML, or the GPU has none. @param gpu as nvidia-smi finds it: its number or its UUID */
export function openEnergyCounter(gpu: string, library = libraryName): EnergyCounter | null {
  try {
    const nvml = koffi.load(library);
    const init = nvml.func('int nvmlInit_v2()') as () => number;
    const [by, type, id] = /^\d+$/.test(gpu)
      ? (['Index_v2', 'unsigned int', Number(gpu)] as const)
      : (['UUID', 'const char *', gpu] as const);
    const handleOf = nvml.func(`int nvmlDeviceGetHandleBy${by}(${type}, _Out_ void **)`) as (
      id: number | string,
      handle: [unknown],
    ) => number;
    const energyOf = nvml.func(
      'int nvmlDeviceGetTotalEnergyConsumption(void *, _Out_ unsigned long long *)',
    ) as (handle: unknown, millijoules: [number | bigint]) => number;
    const handle: [unknown] = [null];
    if (init() !== 0 || handleOf(id, handle) !== 0) return null;
    const read: [number | bigint] = [0];
    if (energyOf(handle[0], read) !== 0) return null;
    const joules = () => {
      energyOf(handle[0], read);
      return Number(read[0]) / 1000;
    };
    const resolutionMs = stepOf(joules);
    return resolutionMs === null ? null : { joules, resolutionMs };
  } catch {
    // Neither a driver nor its library is needed for anything else here.
    return null;
  }
}

/** The longest time between two changes; null where there are none. */
function stepOf(joules: () => number): number | null {
  const begun = performance.now();
  const changes: number[] = [];
  let last = joules();
  while (performance.now() - begun < watchMs) {
    const now = joules();
    if (now === last) continue;
    last = now;
    changes.push(performance.now());
  }
  // The first change ends a step that was begun before.
  const steps = changes.slice(1).map((at, i) => at - changes[i]!);
  return steps.length === 0 ? null : Math.max(...steps);
}

/** Repeats a run for as long as the counter takes to say something of it. */
export async function energyOf(counter: EnergyCounter, run: () => Promise<unknown>): Promise<Energy> {
  const least = Math.max(leastRunMs, stepsOfRun * counter.resolutionMs);
  const begun = performance.now();
  const before = counter.joules();
  let runs = 0;
  do {
    await run();
    runs++;
  } while (performance.now() - begun < least);
  return { joules: (counter.joules() - before) / runs, runs };
}
