import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { setTimeout as sleep } from "node:timers/promises"
import * as ProcessHealth from "../../src/worker/ProcessHealth.ts"

const block = (milliseconds: number) => {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

it.live("an event loop that stands whenever it is not looked at is late, not idle", () =>
  Effect.gen(function* () {
    const read = yield* ProcessHealth.make
    for (let round = 0; round < 3; round++) {
      read()
      block(300)
      yield* Effect.promise(() => sleep(0))
      assert.isAbove(read().eventLoopDelay, 200)
    }
  })
)
