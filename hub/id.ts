// The name of a model on the Hub, ORG/NAME, and of its folder in the cache.

/** Qwen/Qwen3-0.6B; a path that begins with / or . is none. */
export const isHubId = (name: string): boolean =>
  /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/.test(name) && !/--|\.\./.test(name);

/** models--Qwen--Qwen3-0.6B */
export const folderOf = (id: string): string => `models--${id.replaceAll('/', '--')}`;

/** The model whose folder this is; null for any other folder. */
export function idOf(folder: string): string | null {
  const [kind, ...words] = folder.split('--');
  return kind === 'models' && words.length > 0 && words.every((word) => word !== '') ? words.join('/') : null;
}
