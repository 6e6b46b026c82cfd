/** Cases of transactions that hold for every store: outside of one, nothing is delayed. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { contractCase } from "./StoreUnderTest.ts"

export const transactionCases = [
  contractCase("outside a transaction `inTransaction` is false and `afterCommit` runs at once", function* ({ driver }) {
    assert.isFalse(yield* driver.inTransaction)
    let ran = 0
    yield* driver.afterCommit(
      Effect.sync(() => {
        ran += 1
      })
    )
    assert.strictEqual(ran, 1)
  })
]
