/** The in-memory job store passes the contract suite, its clock moved by `TestClock`. */
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as MemoryJobStore from "../../src/store/MemoryJobStore.ts"
import * as JobStoreContract from "../../src/testing/JobStoreContract.ts"

const layer = Layer.effect(
  JobStoreContract.StoreUnderTest,
  Effect.map(MemoryJobStore.make, (driver) => ({ driver, advance: (ms: number) => TestClock.adjust(ms) }))
).pipe(Layer.provideMerge(TestClock.layer()))

JobStoreContract.suite("MemoryJobStore", layer)
