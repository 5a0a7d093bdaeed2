// The schedule of any scheme.
import type { BarrierSchedule } from './barriers/schedule.ts';
import type { StreamSchedule } from './stream/schedule.ts';

export type Schedule = BarrierSchedule | StreamSchedule;
