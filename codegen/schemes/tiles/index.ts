// Tiles: a prompt's tokens through all layers in one launch, products on the matrix instructions, barriers between stages.
import { commonView } from '../../emit/view.ts';
import { waitsPerLayer } from '../../schedule/cost.ts';
import type { Scheme } from '../scheme.ts';
import { tilesCost } from './cost.ts';
import { lowerTiles } from './lower.ts';
import { promptGraph } from './rewrite.ts';
import {
  tiledTokens,
  tilesBudget,
  tilesNotHalf,
  tilesOddHead,
  tilesStage,
  tilesWithoutCores,
  tilesWithSplitHeads,
  wgmmaWithoutCores,
} from './rules.ts';
import type { TilesSchedule } from './schedule.ts';
import { simulateTiles } from './simulate.ts';
import { tinyTiles } from './tiny.ts';
import { uncoveredTiles } from './uncovered.ts';
import { tilesView } from './view.ts';

export const tilesScheme: Scheme<TilesSchedule> = {
  name: 'tiles',
  read: (graph, plan) => ({ graph: promptGraph(graph, plan), plan }),
  rules: [
    tilesStage,
    tilesWithoutCores,
    tilesNotHalf,
    tilesOddHead,
    tilesWithSplitHeads,
    wgmmaWithoutCores,
    tiledTokens,
  ],
  budget: tilesBudget,
  lower: lowerTiles,
  uncovered: (schedule) => uncoveredTiles(schedule),
  simulate: simulateTiles,
  tiny: tinyTiles,
  cost: tilesCost,
  view: (schedule, origin) => {
    const cost = tilesCost(schedule);
    const facts = [
      `${waitsPerLayer(cost)} grid barriers a layer`,
      ...schedule.kernels.map(({ most, tokens }) => `tiles of ${tokens} tokens up to ${most}`),
    ];
    return tilesView(schedule, commonView(schedule, origin, facts, cost));
  },
  templates: () => ({
    kernel: 'cuda/tiles/prompt.cu.hbs',
    model: 'cuda/tiles/prompt.h.hbs',
    copied: [
      ['cuda/tiles', 'tiles/'],
      ['cuda/tiles/host', 'host/'],
    ],
  }),
};
