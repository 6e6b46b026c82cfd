/** Ids without `SecureRandom` in the context: the layout, the order, and a clock that stands or goes back. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Ids from "../../src/client/Ids.ts"

const uuidV7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const millisOf = (id: string) => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)

describe("Ids", () => {
  it.effect("are UUIDv7s of the clock, each after the one before, one or many at a time", () =>
    Effect.gen(function* () {
      const makeId = yield* Ids.make
      const made: Array<string> = []
      for (const now of [0, 5, 1_700_000_000_000, 1_600_000_000_000]) {
        yield* TestClock.setTime(now)
        made.push(yield* makeId, ...(yield* Ids.many(makeId, 1_000)), yield* makeId)
      }
      expect(made.every((id) => uuidV7.test(id))).toBe(true)
      expect(made.every((id, i) => i === 0 || id > made[i - 1]!)).toBe(true)
      expect([0, 1_002, 2_004, 3_006].map((at) => millisOf(made[at]!))).toEqual([
        0, 5, 1_700_000_000_000, 1_700_000_000_000
      ])
    })
  )

  it.effect("stay in order when a millisecond outlasts the lower part of its counter", () =>
    Effect.gen(function* () {
      const makeId = yield* Ids.make
      const made = yield* Ids.many(makeId, 200_000)
      expect(made.every((id, i) => i === 0 || id > made[i - 1]!)).toBe(true)
      expect(uuidV7.test(made.at(-1)!)).toBe(true)
      expect(new Set(made.map((id) => id.slice(19, 23))).size).toBeGreaterThan(2)
      expect(millisOf(made.at(-1)!)).toBe(0)
    })
  )

  it.effect("differ between sources", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* Ids.make, yield* Ids.make]
      const made = [...(yield* Ids.many(a, 1_000)), ...(yield* Ids.many(b, 1_000))]
      expect(new Set(made).size).toBe(2_000)
    })
  )
})
