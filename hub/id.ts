// The name of a model on the Hub, ORG/NAME, and of its folder in the cache.

/** Qwen/Qwen3-0.6B; a path that begins with / or . is none. */
export const isHubId = (name: string): boolean =>
  /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9_][\w.-]*$/.test(name) && !/--|\.\./.test(name);

/** The name in what people write for it: an address of the Hub, a revision or a kind of GGUF file behind it. Null: there is none,
 *  or it is one already. */
export function hubIdIn(text: string): string | null {
  const path = text.replace(/^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\//i, '');
  const [, id = '', rest = ''] = /^([^/]*\/[^/@:?#]*)(.*)$/s.exec(path) ?? [];
  const isMore = path !== text || /^[@:]./.test(rest);
  return isMore && isHubId(id) ? id : null;
}

/** models--Qwen--Qwen3-0.6B */
export const folderOf = (id: string): string => `models--${id.replaceAll('/', '--')}`;

/** The model whose folder this is; null for any other folder. */
export function idOf(folder: string): string | null {
  const [kind, ...words] = folder.split('--');
  return kind === 'models' && words.length > 0 && words.every((word) => word !== '') ? words.join('/') : null;
}
