// A model on the Hub at one commit: its files with their sizes and hashes.
import { z } from 'zod';
import { type Asked, noHub } from './failures.ts';
import { type Hub, readText } from './request.ts';

export interface RepoFile {
  readonly name: string;
  readonly bytes: number;
  /** SHA-256 of a file in LFS, else git's SHA-1 of it as a blob; in hex, and its name in the cache. */
  readonly hash: string;
}

export interface Repo {
  /** As the Hub writes it, whatever letter case or former name was asked for. */
  readonly id: string;
  readonly commit: string;
  readonly files: ReadonlyMap<string, RepoFile>;
  readonly asked: Asked;
}

const hex = (digits: number) => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`));
const answer = z.looseObject({
  id: z.string(),
  sha: hex(40),
  siblings: z.array(
    z.looseObject({
      rfilename: z.string(),
      size: z.int().nonnegative(),
      blobId: hex(40),
      lfs: z.looseObject({ sha256: hex(64), size: z.int().nonnegative() }).nullish(),
    }),
  ),
});

/** @throws OnelaunchError: what is not there, not to be had, or not reached */
export async function readRepo(hub: Hub, asked: Asked): Promise<Repo> {
  const path = `/api/models/${asked.id}/revision/${encodeURIComponent(asked.revision)}?blobs=true`;
  const text = await readText(hub, path, asked, 50_000_000);
  const parsed = answer.safeParse(parse(text));
  if (!parsed.success) throw noHub(hub, parsed.error.issues[0]!.message);
  const { id, sha, siblings } = parsed.data;
  const files = siblings.map(({ rfilename: name, size, blobId, lfs }): [string, RepoFile] => [
    name,
    { name, bytes: lfs?.size ?? size, hash: lfs?.sha256 ?? blobId },
  ]);
  return { id, commit: sha, files: new Map(files), asked };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Where a file is fetched from. */
export const pathOf = ({ id, commit }: Repo, name: string): string =>
  `/${id}/resolve/${commit}/${name.split('/').map(encodeURIComponent).join('/')}`;
