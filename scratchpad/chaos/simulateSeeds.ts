/** A thread of `simulate.ts`: runs the seeds it is sent and answers what they did. */
import { parentPort } from "node:worker_threads"
import type { Violation } from "../../src/testing/simulation/History.ts"
import type { Mode } from "../../src/testing/simulation/Setup.ts"
import * as Tally from "../../src/testing/simulation/Tally.ts"
import * as Campaign from "../../test/simulation/Campaign.ts"

/** Some seeds of one mode. */
export interface Part {
  readonly mode: Mode
  readonly from: number
  readonly seeds: number
}

export interface Answer {
  readonly tally: Tally.Tally
  readonly violated: ReadonlyArray<{ readonly seed: number; readonly violations: ReadonlyArray<Violation> }>
  /** Seeds that were run twice, and did the same again or not. */
  readonly replays: { readonly same: number; readonly different: number }
}

/** One seed in so many is run twice. */
const replayed = 50

const run = ({ from, mode, seeds }: Part): Answer => {
  const tally = Tally.make()
  const violated: Array<Answer["violated"][number]> = []
  const replays = { same: 0, different: 0 }
  for (let seed = from; seed < from + seeds; seed++) {
    const simulation = Campaign.run(seed, mode)
    const { violations } = simulation.history
    Tally.add(tally, simulation)
    if (violations.length > 0) violated.push({ seed, violations })
    if (seed % replayed === 0) {
      const again = Campaign.run(seed, mode).world
      replays[again.digest === simulation.world.digest ? "same" : "different"]++
    }
  }
  return { tally, violated, replays }
}

// oxlint-disable-next-line unicorn/require-post-message-target-origin
parentPort?.on("message", (part: Part) => parentPort?.postMessage(run(part)))
