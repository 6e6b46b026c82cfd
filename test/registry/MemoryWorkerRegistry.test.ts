/** The in-memory worker registry passes the contract suite, its clock moved by `TestClock`. */
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as MemoryWorkerRegistry from "../../src/registry/MemoryWorkerRegistry.ts"
import * as WorkerRegistryContract from "../../src/testing/WorkerRegistryContract.ts"

const layer = Layer.effect(
  WorkerRegistryContract.RegistryUnderTest,
  Effect.map(MemoryWorkerRegistry.make, (driver) => ({ driver, advance: (ms: number) => TestClock.adjust(ms) }))
).pipe(Layer.provideMerge(TestClock.layer()))

WorkerRegistryContract.suite("MemoryWorkerRegistry", layer)
