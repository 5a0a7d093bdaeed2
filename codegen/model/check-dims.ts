// Dims written as TypeScript data, checked.
import { type Dtype, dtypeBytes, families, type ModelDims } from './dims.ts';
import { dimsKeys, findProblems, refusal, unsupported, unsupportedFamily } from './dims-problems.ts';

const dtypes = Object.keys(dtypeBytes) as readonly Dtype[];

/** The same dims, checked: for dims written as TypeScript data.
 *  @throws OnelaunchError of kind usage, as parseDims does. */
export function checkDims(dims: ModelDims): ModelDims {
  const problems = findProblems(dims, dimsKeys);
  if (!families.includes(dims.family)) problems.unshift(unsupportedFamily('family', dims.family));
  if (!dtypes.includes(dims.dtype)) problems.push(unsupported('dtype', dims.dtype, dtypes));
  if (problems.length > 0) throw refusal(`dims of ${dims.name}`, problems);
  return dims;
}
