/**
 * A slice of the campaign of `npm run chaos -- --simulate`: the real worker, maintenance and client under all faults, no
 * promise broken; and every promise broken on purpose is noticed.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Mode } from "../../src/testing/simulation/Setup.ts"
import * as Tally from "../../src/testing/simulation/Tally.ts"
import * as Campaign from "./Campaign.ts"
import { mutants } from "./Mutants.ts"

/** Seeds of the slice. */
const budget = { safety: 60, liveness: 30 }
/** Seeds of either mode within which each mutant has to be noticed. The hardest one to notice is in one seed of thirty. */
const seedsOfMutants = 200

const sound = (mode: Mode, seeds: number): Tally.Tally => {
  const tally = Tally.make()
  for (let seed = 1; seed <= seeds; seed++) {
    const simulation = Campaign.run(seed, mode)
    Tally.add(tally, simulation)
    assert.deepStrictEqual(
      simulation.history.violations,
      [],
      `npm run chaos -- --simulate --mode ${mode} --seed ${seed} tells the story`
    )
  }
  return tally
}

describe("the simulated fleet", () => {
  it("keeps every promise while faults go on", { timeout: 120_000 }, () => {
    const { acked, duplicates, points, runs, staleRefused } = sound("safety", budget.safety)
    assert.strictEqual(runs, budget.safety)
    // It was not spared
    assert.isAbove(acked, 400)
    assert.isAbove(duplicates, 0)
    assert.isAbove(staleRefused, 0)
    for (const [point, { reached }] of Object.entries(points)) assert.isAbove(reached, 0, point)
  })

  it("ends every job once faults cease, though some workers stay broken", { timeout: 120_000 }, () => {
    const { ended, faults, jobs } = sound("liveness", budget.liveness)
    assert.strictEqual(ended, jobs)
    assert.isTrue(Object.keys(faults).some((fault) => fault.endsWith("always fails")))
  })

  it("does the same again from the same seed, told or not", () => {
    for (const mode of ["safety", "liveness"] as const) {
      for (const seed of [3, 7, 11]) {
        const first = Campaign.run(seed, mode).world
        const second = Campaign.run(seed, mode, { tells: true }).world
        assert.strictEqual(second.digest, first.digest)
        assert.strictEqual(second.steps, first.steps)
        assert.isAbove(second.story.length, 10)
        assert.notStrictEqual(Campaign.run(seed + 100, mode).world.digest, first.digest)
      }
    }
  })
})

describe("is noticed by the checker", () => {
  for (const { breaks, name, ...sabotage } of mutants) {
    it(name, { timeout: 120_000 }, () => {
      const rules = new Set<string>()
      for (let seed = 1; seed <= seedsOfMutants; seed++) {
        for (const mode of ["safety", "liveness"] as const) {
          for (const { rule } of Campaign.run(seed, mode, { sabotage }).history.violations) rules.add(rule)
          if (breaks.some((rule) => rules.has(rule))) return
        }
      }
      assert.fail(`none of ${breaks.join(", ")} was seen broken, only ${[...rules].join(", ") || "nothing"}`)
    })
  }
})
