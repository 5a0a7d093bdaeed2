// How a command speaks: data to stdout, notes and progress to stderr; colours and a progress line on a terminal only.
import picocolors from 'picocolors';
import { columnsOf, withinColumns } from './columns.ts';
import type { Io } from './io.ts';
import { jsonLine, oneLine, printable, printableLine } from './printable.ts';
import { foldRows } from './wrap.ts';

export interface OutputOptions {
  readonly json?: boolean | undefined;
  readonly quiet?: boolean | undefined;
  readonly color?: boolean | undefined;
}

type Colors = ReturnType<typeof picocolors.createColors>;

export interface Ui {
  readonly io: Io;
  readonly json: boolean;
  /** Colours for stderr. */
  readonly colors: Colors;
  /** A line of data, or rows, which fit the terminal. */
  data(text: string): void;
  /** Data that is copied as it is: lines of a program, or of a document. */
  code(text: string): void;
  /** The data, as one line of JSON. */
  result(value: unknown): void;
  /** A line for people, unless --quiet. @param style of `colors`: what the text has of its own is shown, not obeyed */
  note(text: string, style?: (text: string) => string): void;
  /** The same, for what one should know. */
  warn(text: string): void;
  /** Work that takes a while: a line that is rewritten on a terminal, a line at its begin and end elsewhere. */
  progress(label: string): Progress;
}

/** Runs the body of a command and keeps the exit code it answers. */
export type Start = (options: OutputOptions, body: (ui: Ui) => Promise<number>) => Promise<void>;

interface Progress {
  /** @param share 0 to 1 of the work, where known; @param detail what is being done */
  update(share: number | null, detail?: string): void;
  /** A part of it is done: a line of its own, but on a terminal, where the one line tells. */
  log(text: string): void;
  /** @param text what came of it, in the place of the progress; nothing: only the terminal's line is removed */
  end(text?: string): void;
}

const width = 24;
const eraseLine = '\r\u001b[K';

export function createUi(io: Io, options: OutputOptions): Ui {
  const quiet = options.quiet === true;
  const wantsColor = options.color !== false && io.errIsTty && !io.env['NO_COLOR'];
  const colors = picocolors.createColors(wantsColor);
  const say = (text: string) => {
    if (!quiet) io.err(`${text}\n`);
  };
  const note: Ui['note'] = (text, style = String) => say(style(printable(text)));
  /** Texts of strangers are in any data; who copies them from a file or a pipe has them as they are. */
  const shown = (text: string) => (io.outIsTty ? printable(text) : text);
  return {
    io,
    json: options.json === true,
    colors,
    data: (text) => io.out(`${io.outIsTty ? foldRows(shown(text), io.columns()) : text}\n`),
    code: (text) => io.out(`${shown(text)}\n`),
    result: (value) => io.out(jsonLine(value, io.outIsTty)),
    note,
    warn: (text) => say(`${colors.yellow('note:')} ${printable(text)}`),
    progress: (label) => {
      if (quiet) return { update: () => {}, log: () => {}, end: () => {} };
      if (!io.errIsTty || io.env['TERM'] === 'dumb') {
        let begun = false;
        return {
          update: (_, detail) => {
            if (!begun) note(detail === undefined ? label : `${label}: ${detail}`);
            begun = true;
          },
          log: (text) => note(text),
          end: (text) => text !== undefined && note(text),
        };
      }
      let last = 0;
      return {
        update: (share, detail = '') => {
          const now = performance.now();
          // A terminal over a slow line is not to be flooded.
          if (now - last < 50) return;
          last = now;
          const full = Math.round((share ?? 0) * width);
          const bar = share === null ? '' : ` ${'█'.repeat(full)}${'░'.repeat(width - full)}`;
          const line = printableLine(`${label}${bar} ${detail}`);
          // A line that is wrapped could not be erased, and Ctrl-C writes two characters behind it.
          io.err(`${eraseLine}${withinColumns(line, Math.min(79, io.columns()) - 3)}`);
        },
        log: () => {},
        end: (text) => {
          if (last > 0) io.err(eraseLine);
          if (text !== undefined) note(text);
        },
      };
    },
  };
}

export type Cell = string | number | null;

/** A cell of a table, as one line. */
export const cellText = (cell: Cell): string => (cell === null ? '-' : oneLine(String(cell)));

/** Rows under a header, in columns; columns that hold numbers (or `-`) only are right-aligned. */
export function table(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const text = rows.map((row) => row.map(cellText));
  const isNumeric = header.map((_, column) =>
    text.every((row) => /^(-|-?[\d.,]+( ?[%x])?)$/.test(row[column] ?? '-')),
  );
  const widths = header.map((name, column) =>
    Math.max(columnsOf(name), ...text.map((row) => columnsOf(row[column] ?? ''))),
  );
  return [header, ...text]
    .map((row) =>
      row
        .map((cell, column) => {
          const rest = ' '.repeat(widths[column]! - columnsOf(cell));
          return isNumeric[column] ? rest + cell : cell + rest;
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Such as 1 variant, 2 variants. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** A number with so many digits after the point; null stays null. */
export const fixed = (value: number | null, digits: number): string | null =>
  value === null ? null : value.toFixed(digits);

export const seconds = (millis: number): string =>
  millis < 10_000 ? `${(millis / 1000).toFixed(2)} s` : `${(millis / 1000).toFixed(1)} s`;
