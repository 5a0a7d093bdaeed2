// One at a time, over threads, processes and containers: by flock, which the system takes back from whoever dies.
import { closeSync, fstatSync, openSync, statSync, unlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Lock {
  /** Whether it keeps others out: not on file systems that have no locks. */
  readonly held: boolean;
  release(): void;
}

type Flock = (fd: number, how: number) => 'taken' | 'busy' | 'unsupported';

let loaded: Promise<Flock> | undefined;

async function loadFlock(): Promise<Flock> {
  const { default: koffi } = await import('koffi');
  const flock: (fd: number, how: number) => number = koffi.load(null).func('int flock(int fd, int how)');
  return (fd, how) => {
    if (flock(fd, how) === 0) return 'taken';
    return koffi.errno() === koffi.os.errno['EWOULDBLOCK'] ? 'busy' : 'unsupported';
  };
}

const [exclusive, atOnce] = [2, 4];

/** Takes the lock of a path, a file that is there while someone has it. null: another has it. @throws what open says */
export async function tryLock(path: string): Promise<Lock | null> {
  loaded ??= loadFlock();
  const flock = await loaded;
  for (;;) {
    const fd = openSync(path, 'a');
    const result = flock(fd, exclusive | atOnce);
    if (result !== 'taken') {
      closeSync(fd);
      return result === 'busy' ? null : { held: false, release: () => {} };
    }
    if (isStill(path, fd)) {
      const release = () => {
        removeIfThere(path);
        closeSync(fd);
      };
      return { held: true, release };
    }
    // Its last owner removed the file between opening and locking.
    closeSync(fd);
  }
}

/** Takes the lock of a path as soon as it is free. @throws the reason of the signal, or what open says */
export async function waitForLock(
  path: string,
  { signal, onWait }: { readonly signal?: AbortSignal | undefined; readonly onWait?: () => void },
): Promise<Lock> {
  for (let tries = 0; ; tries++) {
    signal?.throwIfAborted();
    const lock = await tryLock(path);
    if (lock) return lock;
    // Those that clean up hold locks for a moment only.
    if (tries === 3) onWait?.();
    await sleep(pollMillis);
  }
}

const pollMillis = 50;

function isStill(path: string, fd: number): boolean {
  try {
    const [there, ours] = [statSync(path), fstatSync(fd)];
    return there.ino === ours.ino && there.dev === ours.dev;
  } catch {
    return false;
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Removed by hand, or the folder cannot be written any more: the next owner takes it as it is.
  }
}
