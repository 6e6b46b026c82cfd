/** One seed of Polyqueue's own simulation: its world, its workload, and what is wrong with it in the end. */
import { JobDefaults } from "../../src/index.ts"
import { isEnd } from "../../src/testing/simulation/History.ts"
import * as Rng from "../../src/testing/simulation/Rng.ts"
import * as Setup from "../../src/testing/simulation/Setup.ts"
import { type Options, Simulation } from "../../src/testing/simulation/Simulation.ts"
import * as Workload from "./Workload.ts"

/** Runs it. Every violation is in the history of what it answers. */
export const run = (
  seed: number,
  mode: Setup.Mode,
  options: { readonly tells?: boolean; readonly sabotage?: NonNullable<Options["sabotage"]> } = {}
): Simulation => {
  const rng = Rng.make(seed)
  const setup = Setup.draw(rng.fork(), mode, Workload.queues)
  const { check, clients, handlers, jobs } = Workload.make(rng.fork())
  const simulation = new Simulation({
    seed,
    mode,
    setup,
    jobs,
    handlers,
    clients,
    defaults: JobDefaults.defaultValue(),
    tells: options.tells ?? false,
    ...(options.sabotage === undefined ? {} : { sabotage: options.sabotage })
  })
  for (const _ of simulation.drive());
  for (const [id, job] of simulation.history.jobs) {
    const row = simulation.row(id)
    if (row === undefined || !isEnd(row.status)) continue
    for (const problem of check(row, job)) simulation.history.violate("jobs become what they should", problem)
  }
  return simulation
}
