// What explain says of a stream, below the table.
import { kibibytes, megabytes } from '../../schedule/bytes-text.ts';
import type { Cost } from '../../schedule/estimate.ts';
import type { UnderWay } from './cost.ts';

type StreamOf = NonNullable<Cost['stream']>;

/** Who streams how much, through which ring, and what blocks wait for. */
export function streamLines(stream: StreamOf): string[] {
  const { blocks, leastBytes, mostBytes, padding, rings, slotBytes, polledBytes } = stream;
  const each =
    leastBytes === mostBytes ? megabytes(mostBytes) : `${megabytes(leastBytes)} to ${megabytes(mostBytes)}`;
  const [one, ...several] = rings;
  const list = (of: (ring: (typeof rings)[number]) => number) => several.map(of).join(', ');
  const many =
    several.length === 0
      ? ''
      : `; ${list((ring) => ring.slots)} in passes of up to ${list((ring) => ring.tokens)} tokens`;
  return [
    `blocks  ${blocks}; each streams ${each} MB a token and polls ${kibibytes(polledBytes)} KiB of exchanges; ${(100 * padding).toFixed(1)} % of the stream is padding`,
    `ring    ${one!.slots} slots of ${kibibytes(slotBytes)} KiB${many}`,
    `copies  ${copiesText(stream)}`,
    `heads   ${headsText(stream)}`,
  ];
}

function copiesText({ inFlightBytes: { layers, alone, head } }: StreamOf): string {
  const varies = ({ usual, most }: UnderWay) => most > usual;
  const text = (copies: UnderWay) =>
    varies(copies) ? `${kibibytes(copies.usual)} or ${kibibytes(copies.most)}` : `${kibibytes(copies.usual)}`;
  const inHeads = alone ? `, ${text(alone)} in blocks that have a head alone` : '';
  const when = varies(layers) || varies(head) ? '; the larger while a quarter of the ring is free' : '';
  return `at most ${text(layers)} KiB under way${inHeads}, ${text(head)} in the LM head${when}`;
}

function headsText({ splits, splitFrom }: StreamOf): string {
  if (splits === 1) return 'one block a kv head';
  const parts = `${splits} blocks a kv head, whose parts are merged`;
  return splitFrom === 0 ? parts : `one block a kv head; from position ${splitFrom} on ${parts}`;
}

/** What the predicted speed comes from. */
export const streamSpeed = ({ streamMicros, chainMicros, exchangeMicros }: StreamOf, reads: string): string =>
  `since ${streamMicros! >= chainMicros ? 'the stream' : 'the chain of exchanges'} is the longer: ` +
  `at ${reads} and ${exchangeMicros} us an exchange`;
