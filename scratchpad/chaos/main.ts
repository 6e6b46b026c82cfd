/**
 * `npm run chaos`: breaks Polyqueue on purpose.
 *
 * `--simulate …` runs the deterministic simulation: see `simulate.ts`.
 */
import { simulate } from "./simulate.ts"

if (process.argv.includes("--simulate")) process.exitCode = await simulate(process.argv.slice(2))
else {
  process.stderr.write("Say what to run: npm run chaos -- --simulate\n")
  process.exitCode = 2
}
