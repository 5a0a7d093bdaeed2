// What a report is made of: journals of experiments, figures of kernels, and those of other systems.
import type { JournalHeader, RunRecord, VariantRecord } from '../journal-records.ts';
import type { Spread } from '../measure.ts';
import type { RankedRow } from '../ranking.ts';

export interface Experiment {
  /** Where it was read. */
  readonly file: string;
  readonly header: JournalHeader;
  readonly runs: readonly RunRecord[];
  /** Best first, then what was not timed. */
  readonly rows: readonly VariantRow[];
}

export interface VariantRow extends RankedRow {
  /** As `parsePlan` takes it. */
  readonly plan: VariantRecord['plan'];
  /** Of the kernel that makes one token: what its registers do not hold [bytes]. */
  readonly decodeSpillBytes: number;
  /** Tokens a second of its rounds, for each position; null where it was not timed. */
  readonly ranges: readonly (Range | null)[];
}

export type Range = Pick<Spread, 'median' | 'least' | 'most'>;

interface DecodeFigure {
  readonly position: number;
  readonly tokensPerSecond: Range;
  readonly gigabytesPerSecond: number;
  /** Of the target's bandwidth. */
  readonly share: number | null;
  readonly tokensPerJoule: number | null;
}

/** One kernel of bench/reports. */
export interface KernelFigures {
  readonly file: string;
  readonly kernel: string;
  /** What tells it from others of the model on the target: formats, plan and that for prompts; with its file where two are called so. */
  readonly name: string;
  readonly model: string;
  readonly target: string;
  /** All of it, where it is not listed so. */
  readonly ownTarget: unknown;
  readonly plan: string;
  /** Of a plan that does not ship, whatever it is called. */
  readonly planFile: string | null;
  readonly dims: Readonly<Record<string, unknown>>;
  readonly bench: BenchFigures | null;
  readonly verify: VerifyFigures | null;
  /** Of each text. */
  readonly quality: readonly QualityFigures[];
}

interface Measured {
  readonly hash: string;
  readonly date: string;
  readonly device: string;
}

export interface BenchFigures extends Measured {
  readonly weights: string;
  readonly tokens: number;
  readonly runs: number;
  readonly decode: readonly DecodeFigure[];
  readonly prefill: { readonly tokens: number; readonly tokensPerSecond: Range } | null;
  /** The machine while it was measured, in words. */
  readonly state: string;
}

export interface VerifyFigures extends Measured {
  readonly ok: boolean;
  readonly source: string;
  readonly worst: number;
  readonly allowed: number;
}

export interface QualityFigures extends Measured {
  readonly text: string;
  readonly tokens: number;
  readonly kl: number;
  /** Share of the tokens where the most likely one is the same. */
  readonly top1: number;
  readonly nll: { readonly ours: number; readonly reference: number };
}

export interface PeerRow {
  readonly peer: string;
  readonly version: string | null;
  /** Tokens in the context, or those of the prompt that is read. */
  readonly position: number | null;
  readonly prefill: number | null;
  readonly tokensPerSecond: Range | null;
  /** Why there is no figure. */
  readonly why: string | null;
}

export interface PeerFigures {
  readonly file: string;
  readonly model: string;
  readonly device: string;
  readonly date: string;
  readonly rows: readonly PeerRow[];
}

export interface ReportInput {
  readonly experiments: readonly Experiment[];
  readonly kernels: readonly KernelFigures[];
  readonly peers: readonly PeerFigures[];
  /** Files of folders that hold none of these. */
  readonly others: readonly string[];
}
