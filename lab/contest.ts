// Timing: the incumbent and a few variants open side by side, verified first, then one reply each in turns.
import { OnelaunchError } from '../errors.ts';
import type { Golden } from '../runtime/verify/golden.ts';
import type { Watch } from './build-all.ts';
import {
  type Contestant,
  type EngineInput,
  failedRecord,
  openVariant,
  problemOf,
  verifiedRecord,
} from './contestant.ts';
import { type Decoder, decoderOf } from './decode.ts';
import type { Candidate } from './enumerate.ts';
import type { Journal } from './journal.ts';
import type { JournalHeader } from './journal-records.ts';
import type { Group } from './strategy.ts';

export interface ContestInput extends EngineInput, Watch {
  readonly header: Pick<JournalHeader, 'positions' | 'tokens'>;
  readonly golden: Golden;
}

/** Opens a variant and verifies it, unless that was done before; null: it is not to be timed, and the journal says why. */
export async function enter(
  candidate: Candidate,
  journal: Journal,
  input: ContestInput,
): Promise<Contestant | null> {
  const { golden, onLine, onProgress } = input;
  const { id, label } = candidate.record;
  onProgress(null, `verifying ${label}`);
  let opened: Contestant;
  try {
    opened = await openVariant(candidate, input);
  } catch (error) {
    input.signal.throwIfAborted();
    const problem = problemOf(error);
    journal.append(failedRecord(id, golden.source, problem));
    onLine(`${label}: cannot be opened: ${problem}`);
    return null;
  }
  const before = journal.records.findLast((one) => one.kind === 'verified' && one.id === id);
  if (before) return opened;
  try {
    const record = await verifiedRecord(opened, golden, input);
    journal.append(record);
    const shown = record.worst === null ? '' : `, logits differ by up to ${record.worst.toPrecision(2)}`;
    onLine(`${label}: ${record.ok ? `verified${shown}` : `WRONG, not timed: ${record.problem}`}`);
    if (record.ok) return opened;
  } catch (error) {
    opened.engine.close();
    throw error;
  }
  opened.engine.close();
  return null;
}

interface Player {
  readonly id: string;
  readonly label: string;
  readonly decoder: Decoder;
}

/** Times a group: at each position so many rounds, in each of them one reply of everybody, every other time in the opposite order. */
export async function timeGroup(
  contestants: readonly Contestant[],
  { rung, rounds }: Group,
  group: number,
  journal: Journal,
  input: ContestInput,
): Promise<void> {
  const { positions, tokens } = input.header;
  const players = contestants.map(({ candidate: { record }, engine }): Player => {
    engine.reset(0);
    return { id: record.id, label: record.label, decoder: decoderOf(engine, tokens, input.signal) };
  });
  let left = players;
  for (const position of positions) {
    left = await eachOf(left, players[0]!, journal, input, (player) => player.decoder.fillTo(position));
    for (let round = 0; round < rounds; round++) {
      input.onProgress(
        null,
        `timing ${left.length - 1} beside the incumbent at position ${position}, round ${round + 1} of ${rounds}`,
      );
      const turns = round % 2 === 0 ? left : left.toReversed();
      left = await eachOf(turns, players[0]!, journal, input, async (player) => {
        const order = turns.indexOf(player);
        const reply = await player.decoder.reply();
        journal.append({
          kind: 'timed',
          id: player.id,
          ...{ rung, group, round, position, order },
          ...reply,
        });
      });
      left = players.filter((player) => left.includes(player));
    }
  }
}

/** Does it with each; those that fail leave, and the journal says why. @throws where the incumbent fails */
async function eachOf(
  players: readonly Player[],
  incumbent: Player,
  journal: Journal,
  { signal, golden, onLine }: ContestInput,
  work: (player: Player) => Promise<void>,
): Promise<Player[]> {
  const left: Player[] = [];
  for (const player of players) {
    try {
      await work(player);
      left.push(player);
    } catch (error) {
      signal.throwIfAborted();
      const problem = `failed while it was timed: ${problemOf(error)}`;
      if (player === incumbent)
        throw new OnelaunchError('failed', `${player.label} ${problem}`, { cause: error });
      journal.append(failedRecord(player.id, golden.source, problem));
      onLine(`${player.label}: ${problem}`);
    }
  }
  return left;
}
