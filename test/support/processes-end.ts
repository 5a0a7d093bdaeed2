// While a test waits for a process by spawnSync and its like, nothing else of its worker runs, its own limit neither: each process has that limit.
import child from 'node:child_process';
import { syncBuiltinESMExports } from 'node:module';

type Waiting = (...args: unknown[]) => unknown;

const limited = Symbol.for('onelaunch test limit');
const limit = { timeout: Number(process.env['ONELAUNCH_TEST_LIMIT']), killSignal: 'SIGKILL' };

const withLimit = (waiting: Waiting): Waiting =>
  Object.assign(
    (...args: unknown[]) => {
      const last = args.at(-1);
      const hasOptions = args.length > 1 && typeof last === 'object' && !Array.isArray(last);
      return waiting(...(hasOptions ? args.slice(0, -1) : args), { ...limit, ...(hasOptions && last) });
    },
    { [limited]: true },
  );

const all = child as unknown as Record<string, Waiting>;
for (const name of ['spawnSync', 'execFileSync', 'execSync']) {
  // Files of one worker share its modules.
  if (!(limited in all[name]!)) all[name] = withLimit(all[name]!);
}
syncBuiltinESMExports();
