/**
 * The contract suite of brokers: every MUST sentence of `BrokerDriver` as a test of the same words, for any
 * implementation. A broker passes it against a real server (or an honest stand-in), or it is not a broker of ours.
 *
 * What a broker declares in its `capabilities` decides which cases apply; what it declares is then asserted.
 */
import { assert, layer as testLayer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Capabilities } from "../broker/BrokerDriver.ts"
import { BrokerUnderTest, type ContractCase, type Hook } from "./broker/BrokerUnderTest.ts"
import { commonCases } from "./broker/CommonCases.ts"
import { doorbellCases } from "./broker/DoorbellCases.ts"
import { hintCases } from "./broker/HintCases.ts"
import { leaseCases } from "./broker/LeaseCases.ts"

export { BrokerUnderTest }

/** What the suite must know before the layer is built. */
export interface Options {
  /** What the broker declares; the first test checks that the driver says the same. */
  readonly capabilities: Capabilities
  /** Which hooks of `BrokerUnderTest` the layer brings; their cases run only then. Default: none. */
  readonly hooks?: ReadonlyArray<Hook>
  /**
   * Whether cases run side by side, each on a queue of its own: they mostly wait. `false` for brokers whose queues share
   * something that the cases would notice. Default `true`.
   */
  readonly concurrent?: boolean
  /** Sentences that this broker cannot keep, each with the reason, which the run prints. */
  readonly skip?: ReadonlyArray<{ readonly test: string; readonly reason: string }>
}

/** Every sentence of the contract, whichever brokers it applies to. */
export const cases: ReadonlyArray<ContractCase> = [...commonCases, ...doorbellCases, ...hintCases, ...leaseCases]

/**
 * Registers the contract suite for one broker: builds `layer` once, and runs every case that applies on it, in real time.
 *
 * Throws while collecting when `skip` names a case that does not exist or does not apply: a skip must not outlive its reason.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import * as MemoryBroker from "../../src/broker/MemoryBroker.ts"
 * import * as BrokerContract from "../../src/testing/BrokerContract.ts"
 *
 * const layer = Layer.effect(
 *   BrokerContract.BrokerUnderTest,
 *   Effect.map(MemoryBroker.make, (driver) => ({ driver }))
 * )
 * BrokerContract.suite("MemoryBroker", layer, { capabilities: MemoryBroker.capabilities })
 * ```
 */
export const suite = <E>(name: string, layer: Layer.Layer<BrokerUnderTest, E>, options: Options): void => {
  const hooks = options.hooks ?? []
  const applicable = cases.filter((one) => one.applies(options.capabilities, hooks))
  for (const { test } of options.skip ?? []) {
    if (!applicable.some((one) => one.name === test)) throw new Error(`${name} skips "${test}", which is no case of it`)
  }
  testLayer(layer, { timeout: 60_000, excludeTestServices: true })(name, (it) => {
    it.effect("declares what the suite was told: its capabilities and hooks", () =>
      Effect.gen(function* () {
        const broker = yield* BrokerUnderTest
        assert.deepStrictEqual(broker.driver.capabilities, options.capabilities)
        assert.deepStrictEqual(
          hooks.filter((hook) => broker[hook] === undefined),
          []
        )
      })
    )
    for (const one of applicable) {
      const skipped = options.skip?.find(({ test }) => test === one.name)
      const concurrent = options.concurrent !== false && one.alone !== true
      if (skipped === undefined) it.effect(one.name, () => one.run, { timeout: 60_000, concurrent })
      else it(one.name, (context) => context.skip(skipped.reason))
    }
  })
}
