// The way from an engine's thread to JavaScript: a socket that is readable when there is something new. Node owns our end and closes it
// with the environment that opened it (a worker thread that ends, throws or is terminated; the process), and then the engine closes itself.
import { Socket } from 'node:net';
import { abiStatus, type Functions, toldByte } from './bindings.ts';
import { failure } from './library-failure.ts';

export interface Channel {
  /** File descriptor for ol_create, which owns it. */
  readonly engineEnd: number;
  /** Whether the channel keeps the process alive. Not at first. */
  hold(alive: boolean): void;
  close(): void;
}

/** onEvent is called after the engine has something new, never from within a call of the library. @param onEvent hasEnded: the end of a job is among it */
export function openChannel(functions: Functions, onEvent: (hasEnded: boolean) => void): Channel {
  const ends = new Int32Array(2);
  const status = functions.ol_channel(ends);
  if (status !== abiStatus.ok) throw failure(status, functions.ol_error(null), 'environment');
  const [ours = -1, engineEnd = -1] = ends;
  const callback = (count: number) => {
    onEvent(buffer.subarray(0, count).includes(toldByte.end));
    return true;
  };
  const socket = new Socket(Object.assign({ fd: ours, writable: false }, { onread: { buffer, callback } }));
  // The engine's end is closed by the engine alone, after ours.
  socket.on('error', () => {});
  socket.unref();
  return {
    engineEnd,
    hold: (alive) => (alive ? socket.ref() : socket.unref()),
    close: () => socket.destroy(),
  };
}

const buffer = new Uint8Array(64);
