// How many bytes there are, for people.

/** Such as 1.2 MB or 0.61 GB. */
export const sizeText = (bytes: number): string =>
  bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
