// Maps that keep what was used last, with it at the end.

/** Puts it at the end of a map. Where there are more than `most` the first one is dropped, which is returned. */
export function remember<K, V>(map: Map<K, V>, key: K, value: V, most: number): V | undefined {
  map.delete(key);
  map.set(key, value);
  if (map.size <= most) return undefined;
  const [[first, dropped]] = map as unknown as [[K, V]];
  map.delete(first);
  return dropped;
}
