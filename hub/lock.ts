// One download at a time into one place: a file with the number of the process, which a later one takes over from a dead one.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';

/** Takes the lock. @returns what frees it @throws OnelaunchError of kind failed while another process has it */
export function lock(path: string): () => void {
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt > 0) throw error;
    }
    const owner = ownerOf(path);
    if (owner !== null) {
      throw new OnelaunchError('failed', `process ${owner} is fetching this model`, {
        hint: `Wait for it; if there is no such download, remove ${path}`,
      });
    }
    rmSync(path, { force: true });
  }
}

/** The living process that a lock names. */
function ownerOf(path: string): number | null {
  const owner = Number(readFileSync(path, 'utf8'));
  if (!Number.isInteger(owner) || owner <= 0) return null;
  try {
    process.kill(owner, 0);
    return owner;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? owner : null;
  }
}
