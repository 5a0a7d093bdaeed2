// Options of the machine that do not go together, or not with a target.
import { barriers, plan, stream } from '../../codegen/plan/plan.ts';
import streamed from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';

const { stages } = unfused;

export const noBuffers = plan('no-buffers', stages, barriers({ producers: 2 }));
export const halfAWarp = plan('half-a-warp', stages, barriers({ warps: 4, buffers: 2, producers: 1 }));
export const tokensOfFewWarps = plan('few-warps', stages, barriers({ warps: 4, tokens: 8 }));
export const largeBuffers = plan('large-buffers', stages, barriers({ buffers: 3, loadsInFlight: 16 }));
export const inFlight = plan('in-flight', stages, barriers({ loadsInFlight: 17 }));
export const bulk = plan('bulk', streamed.stages, stream({ copy: 'bulk' }));
export const fewBlocks = plan('few-blocks', streamed.stages, stream({ blocks: 4 }));
export const polls = plan('polls', streamed.stages, stream({ pollCycles: { o_prj: 300 } as never }));
export const emptySlices = plan('empty-slices', stages, barriers({ warps: 32, loadBits: 64 }));

/** Of a model whose matrices are not in blocks. */
export const bytesOfNumbers = plan('bytes', stages, barriers({ inputBits: 8 }));
