/** Whom an enqueue tells of its job: once, whichever way it went in, and never of one that was there. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { JobStore } from "../../src/index.ts"
import type { Publication } from "../../src/store/Announcer.ts"
import { newJob } from "../support/StoreSteps.ts"

describe("an enqueue publishes its job", () => {
  for (const [how, key] of [
    ["that shares an INSERT", undefined],
    ["that has a key", "k"]
  ] as const) {
    it.effect(`${how}, when it was inserted`, () =>
      Effect.gen(function* () {
        const store = yield* JobStore
        const published: Array<string> = []
        const publication: Publication = {
          announcer: undefined,
          publish: (jobs) => Effect.sync(() => published.push(...jobs.map(({ id }) => id)))
        }
        const job = { ...newJob("t"), key }
        assert.deepStrictEqual(yield* store.enqueueOne(job, publication), { _tag: "Inserted" })
        assert.deepStrictEqual(yield* store.enqueueOne(job, publication), { _tag: "Duplicate", id: job.id })
        assert.deepStrictEqual(published, [job.id])
      }).pipe(Effect.provide(JobStore.layerMemory))
    )
  }
})
