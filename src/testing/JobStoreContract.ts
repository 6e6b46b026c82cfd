/**
 * The contract suite of job stores: every MUST sentence of `JobStoreDriver` as a test of the same words, for any
 * implementation. It proves that memory and Postgres mean the same; a store of your own passes it, or it is not one.
 *
 * After every case the conservation law is checked for every job in the store (`jobStore/Audit.ts`), and the store is
 * emptied. Transactions and lock waits exist on servers only and are not of this suite.
 */
import { layer as testLayer } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import { actCases } from "./jobStore/ActCases.ts"
import { claimCases } from "./jobStore/ClaimCases.ts"
import { controlCases } from "./jobStore/ControlCases.ts"
import { enqueueCases } from "./jobStore/EnqueueCases.ts"
import { fleetCases } from "./jobStore/FleetCases.ts"
import { findCases } from "./jobStore/FindCases.ts"
import { hintCases } from "./jobStore/HintCases.ts"
import { inspectCases } from "./jobStore/InspectCases.ts"
import { leaseCases } from "./jobStore/LeaseCases.ts"
import { pauseCases } from "./jobStore/PauseCases.ts"
import { reapCases } from "./jobStore/ReapCases.ts"
import { settleCases } from "./jobStore/SettleCases.ts"
import { type ContractCase, StoreUnderTest } from "./jobStore/StoreUnderTest.ts"
import { suspectCases } from "./jobStore/SuspectCases.ts"
import { transactionCases } from "./jobStore/TransactionCases.ts"

export { StoreUnderTest }

/** How the suite is run. */
export interface Options {
  /** Sentences that this store cannot keep, each with the reason, which the run prints. */
  readonly skip?: ReadonlyArray<{ readonly test: string; readonly reason: string }>
}

/** Every sentence of the contract. */
export const cases: ReadonlyArray<ContractCase> = [
  ...transactionCases,
  ...enqueueCases,
  ...claimCases,
  ...suspectCases,
  ...hintCases,
  ...settleCases,
  ...leaseCases,
  ...reapCases,
  ...controlCases,
  ...inspectCases,
  ...findCases,
  ...actCases,
  ...pauseCases,
  ...fleetCases
]

/**
 * Registers the contract suite for one store: builds `layer` once and runs every case on it, one after another, in real
 * time unless the layer brings a clock of its own. The store must be empty, and used by nobody else meanwhile.
 *
 * Throws while collecting when `skip` names a case that does not exist: a skip must not outlive its reason.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { TestClock } from "effect/testing"
 * import * as MemoryJobStore from "../../src/store/MemoryJobStore.ts"
 * import * as JobStoreContract from "../../src/testing/JobStoreContract.ts"
 *
 * const layer = Layer.effect(
 *   JobStoreContract.StoreUnderTest,
 *   Effect.map(MemoryJobStore.make, (driver) => ({ driver, advance: (ms: number) => TestClock.adjust(ms) }))
 * ).pipe(Layer.provideMerge(TestClock.layer()))
 * JobStoreContract.suite("MemoryJobStore", layer)
 * ```
 */
export const suite = <E>(name: string, layer: Layer.Layer<StoreUnderTest, E>, options: Options = {}): void => {
  for (const { test } of options.skip ?? []) {
    if (!cases.some((one) => one.name === test)) throw new Error(`${name} skips "${test}", which is no case of it`)
  }
  testLayer(layer, { timeout: 60_000, excludeTestServices: true })(name, (it) => {
    for (const one of cases) {
      const skipped = options.skip?.find(({ test }) => test === one.name)
      if (skipped === undefined) it.effect(one.name, () => one.run, 60_000)
      else it(one.name, (context) => context.skip(skipped.reason))
    }
  })
}
