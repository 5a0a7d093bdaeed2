// A page that is one file: its frame, its colours for light and dark, and the small parts that pages are made of.

/** Text as it stands in HTML and SVG, also inside of attributes. */
export const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** Series and phases, told apart by those who see few colours too (Okabe and Ito's colours; lighter on dark). */
const colors = {
  light: ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b58900', '#56b4e9', '#7a7a7a'],
  dark: ['#56a8e0', '#f08a4b', '#2fbf95', '#dd94bd', '#e0b64a', '#8fd0f5', '#9a9a9a'],
} as const;

const variables = (scheme: keyof typeof colors) =>
  colors[scheme].map((color, i) => `--c${i}: ${color};`).join(' ');

const styles = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3; --paper: #ffffff; --panel: #f6f8fa; ${variables('light')} }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa5b1; --line: #343b44; --paper: #12161b; --panel: #1a2028; ${variables('dark')} }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 20px 64px; max-width: 1140px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 4px; padding-top: 16px; border-top: 1px solid var(--line); }
p { margin: 4px 0 14px; color: var(--soft); max-width: 76ch; }
a { color: var(--c0); }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
h3 { font-size: 14px; font-weight: 600; margin: 26px 0 2px; }
.lead { font-size: 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 8px 0; }
th { font-weight: 600; color: var(--soft); text-align: left; vertical-align: bottom; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.wrap, th.wrap { white-space: normal; min-width: 12em; overflow-wrap: break-word; }
th.n, td.n { text-align: right; }
tr:last-child td { border-bottom: 0; }
tr.total td { font-weight: 600; border-top: 1px solid var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 10px 36px; margin: 18px 0 8px; }
.fact b { display: block; font-size: 24px; line-height: 1.2; font-weight: 600; }
.fact { color: var(--soft); font-size: 13px; }
.fact b { color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); margin: 8px 0; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px; vertical-align: -1px; }
svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
svg text { fill: var(--ink); } svg text.soft { fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); } svg .whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
svg .hollow { fill: var(--paper); }
figure { margin: 10px 0 6px; } figcaption { color: var(--soft); font-size: 13px; }
.narrow { display: none; }
@media (max-width: 700px) { body { padding: 20px 14px 40px; } h1 { font-size: 21px; } .wide { display: none; } .narrow { display: block; } .facts { gap: 10px 24px; } .fact b { font-size: 19px; } }
${colors.light.map((_, i) => `.f${i} { fill: var(--c${i}); background: var(--c${i}); } .s${i} { stroke: var(--c${i}); fill: none; stroke-width: 2; } svg text.f${i} { fill: var(--c${i}); }`).join('\n')}
@media print { body { max-width: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
`;

/** A whole page. @param body HTML, escaped by whoever made it */
export const page = (title: string, body: readonly string[]): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="onelaunch">
<title>${escaped(title)}</title>
<style>${styles}</style>
</head>
<body>
${body.join('\n')}
</body>
</html>
`;

/** A cell: a number is right-aligned; null is a dash. */
export type HtmlCell = string | { readonly number: string } | { readonly wrap: string } | null;

/** A table that scrolls by itself where it is wider than the page. A column in which no row has anything is left out. */
export function htmlTable(
  header: readonly HtmlCell[],
  rows: readonly (readonly HtmlCell[])[],
  { total = false }: { readonly total?: boolean } = {},
): string {
  const used = header.map((_, column) => rows.some((row) => (row[column] ?? null) !== null));
  const cell = (tag: 'th' | 'td', value: HtmlCell) => {
    if (value === null) return `<${tag} class="n">–</${tag}>`;
    if (typeof value === 'string') return `<${tag}>${escaped(value)}</${tag}>`;
    return 'number' in value
      ? `<${tag} class="n">${escaped(value.number)}</${tag}>`
      : `<${tag} class="wrap">${escaped(value.wrap).replaceAll(/[+/,]/g, '$&<wbr>')}</${tag}>`;
  };
  const line = (tag: 'th' | 'td', cells: readonly HtmlCell[], mark = '') =>
    `<tr${mark}>${cells
      .filter((_, column) => used[column])
      .map((value) => cell(tag, value))
      .join('')}</tr>`;
  const body = rows.map((row, i) => line('td', row, total && i === rows.length - 1 ? ' class="total"' : ''));
  return `<div class="scroll" tabindex="0"><table><thead>${line('th', header)}</thead><tbody>${body.join('')}</tbody></table></div>`;
}

/** Large figures beside each other, each with what it is. */
export const facts = (list: readonly (readonly [value: string, what: string])[]): string =>
  `<div class="facts">${list
    .map(([value, what]) => `<div class="fact"><b>${escaped(value)}</b>${escaped(what)}</div>`)
    .join('')}</div>`;

/** What the colours of a drawing mean. @param entries name and number of a colour */
export const legend = (entries: readonly (readonly [name: string, color: number])[]): string =>
  `<div class="legend">${entries
    .map(([name, color]) => `<span><i class="f${color}"></i>${escaped(name)}</span>`)
    .join('')}</div>`;

/** The same drawing for a wide page and for a phone; which one is seen is up to the page's width. */
export const figure = (draw: (width: number) => string, caption = ''): string =>
  `<figure><div class="wide">${draw(1100)}</div><div class="narrow">${draw(360)}</div>${
    caption && `<figcaption>${escaped(caption)}</figcaption>`
  }</figure>`;
