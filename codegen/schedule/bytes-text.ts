// Numbers of bytes as text, without the unit.

export const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(2);

export const kibibytes = (bytes: number): number => Math.round(bytes / 1024);
