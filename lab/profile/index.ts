// The parts of a profile that the command needs.

export { writeText } from '../write-text.ts';
export { profilePage, whatIsSeen } from './page.ts';
export { costOf, recordProfile } from './record.ts';
export { onePass, shownEvents } from './shown.ts';
export { phases, summarize } from './summary.ts';
export { traceFile, traceOf } from './trace.ts';
