/** How far ahead a pool claims: not before it knows that its jobs are quick. */
import { assert, describe, it } from "@effect/vitest"
import { Pool } from "../../src/worker/Pool.ts"

const slots = 60
/** Of jobs that take a second, the next of 60 slots to come free is one or so away. */
const hardlyAhead = slots + 1

describe("a pool", () => {
  it("asks for its free slots alone until every slot could have ended a job", () => {
    const pool = new Pool(["q"], ["t"], slots)
    assert.strictEqual(pool.wanted, hardlyAhead)
    // The quickest of a first handful say nothing of the others
    for (let ended = 1; ended < slots; ended++) {
      pool.ran(0.1)
      assert.strictEqual(pool.wanted, hardlyAhead, `after ${ended} quick jobs`)
    }
    pool.ran(0.1)
    assert.isAbove(pool.wanted, 5 * slots)
  })

  it("of few slots waits for more than one round of them", () => {
    const pool = new Pool(["q"], ["t"], 2)
    for (let ended = 0; ended < 40; ended++) pool.ran(0.1)
    assert.strictEqual(pool.wanted, 2)
    for (let ended = 0; ended < 10; ended++) pool.ran(0.1)
    assert.isAbove(pool.wanted, 20)
  })

  it("claims nothing ahead when the first jobs are slow on average, though most are quick", () => {
    const pool = new Pool(["q"], ["t"], slots)
    for (let ended = 1; ended < slots; ended++) pool.ran(0.1)
    pool.ran(60_000)
    assert.isAtMost(pool.wanted, hardlyAhead)
  })

  it("follows when quick jobs become slow", () => {
    const pool = new Pool(["q"], ["t"], slots)
    for (let ended = 0; ended < slots; ended++) pool.ran(0.1)
    const quick = pool.wanted
    for (let ended = 0; ended < slots; ended++) pool.ran(5_000)
    assert.isBelow(pool.wanted, quick)
    assert.isAtMost(pool.wanted, hardlyAhead)
  })
})
