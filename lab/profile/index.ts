// The parts of a profile that the command needs.

export { writeText } from '../write-text.ts';
export { figuresOf, launchOf, launchText } from './launch.ts';
export { passText, profilePage, whatIsSeen } from './page.ts';
export { checkedTokens, costOf, recordLaunch, recordProfile } from './record.ts';
export { recordRows, rowPositions } from './rows.ts';
export { onePass, shownEvents } from './shown.ts';
export { phases, summarize } from './summary.ts';
export { launchPhaseNames, phaseNames, traceFile, traceOf } from './trace.ts';
