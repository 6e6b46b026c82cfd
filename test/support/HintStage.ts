/**
 * A stage for what a worker does with deliveries: the memory store and the reference broker, both on virtual time, with
 * every ack, release and extension written down, and with knobs for what goes wrong on either side.
 */
import { Context, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import type { Acked, BrokerDriver, Capabilities, Delivery } from "../../src/broker/BrokerDriver.ts"
import { Broker, BrokerError, JobStore, Metrics, Polyqueue, StoreError, WorkerRegistry } from "../../src/index.ts"
import type { Disposition } from "../../src/store/JobStoreDriver.ts"
import * as ReferenceBroker from "./ReferenceBroker.ts"

/** What a worker did to a delivery. */
export type Settled =
  | { readonly _tag: "acked"; readonly count: number; readonly ended: Acked["ended"] }
  | { readonly _tag: "released"; readonly count: number; readonly delay: number }

export interface Knobs {
  /** What a receive does instead of receiving. */
  receiving: "fails" | "hangs" | undefined
  /** So many acks fail, each as an item of its batch. */
  failingAcks: number
  /** The lease that the broker says it gives, in ms. */
  lease: number | undefined
  /** Delivered more often than this, a hint goes to the dead-letter queue. */
  maxReceives: number
  /** Whether the store answers nobody. */
  storeAway: boolean
  /** Jobs that the store says this of, whatever they are. */
  readonly pretended: Map<string, { readonly disposition: Disposition; readonly attempt: number }>
}

export interface Stage extends Knobs {
  readonly driver: BrokerDriver
  /** By job, in order. */
  readonly settled: Map<string, Array<Settled>>
  readonly extended: Map<string, number>
  readonly dead: Array<string>
  /** Deliveries handed out. */
  received: number
  /** Hints handed over for publishing. */
  published: number
  /** Calls of release. */
  releases: number
}

export class HintStage extends Context.Service<HintStage, Stage>()("test/HintStage") {}

const away = (operation: string) =>
  new BrokerError({ reason: "Unavailable", operation, message: "the test took the broker away" })
const cut = (operation: string) =>
  new StoreError({ reason: "Unavailable", operation, message: "the test cut the connection" })

const makeStage = Effect.fnUntraced(function* (capabilities: Partial<Capabilities>) {
  const reference = yield* ReferenceBroker.make()
  const note = (id: string, what: Settled) => {
    const settled = stage.settled.get(id)
    if (settled === undefined) stage.settled.set(id, [what])
    else settled.push(what)
  }
  const driver: BrokerDriver = {
    ...reference.driver,
    capabilities: { ...reference.driver.capabilities, ...capabilities },
    publish: (hints) => {
      stage.published += hints.length
      return reference.driver.publish(hints)
    },
    consumer: (options) =>
      Effect.map(reference.driver.consumer(options), (consumer) => ({
        receive: (asked) =>
          Effect.suspend(() => {
            if (stage.receiving === "fails") return Effect.fail(away("receive"))
            if (stage.receiving === "hangs") return Effect.never
            return Effect.flatMap(consumer.receive(asked), (deliveries) => {
              const isDead = ({ deliveryCount }: Delivery) => (deliveryCount ?? 0) > stage.maxReceives
              const dead = deliveries.filter(isDead)
              stage.dead.push(...dead.map(({ hint }) => hint.jobId))
              const alive = deliveries.filter((delivery) => !isDead(delivery))
              stage.received += alive.length
              return Effect.as(
                consumer.ack(dead),
                alive.map((delivery) => ({ ...delivery, lease: stage.lease }))
              )
            })
          }),
        extend: (deliveries, lease) => {
          for (const { hint } of deliveries) stage.extended.set(hint.jobId, (stage.extended.get(hint.jobId) ?? 0) + 1)
          return consumer.extend(deliveries, stage.lease ?? lease)
        },
        ack: (deliveries) =>
          Effect.suspend(() => {
            const failing = deliveries.slice(0, stage.failingAcks)
            stage.failingAcks -= failing.length
            const good = deliveries.slice(failing.length)
            for (const { deliveryCount, ended, hint } of good) {
              note(hint.jobId, { _tag: "acked", count: deliveryCount ?? 0, ended })
            }
            return Effect.map(consumer.ack(good), (outcomes) => [
              ...failing.map(() => ({ _tag: "Failed", error: away("ack") }) as const),
              ...outcomes
            ])
          }),
        release: (deliveries, delay) => {
          stage.releases++
          for (const { deliveryCount, hint } of deliveries) {
            note(hint.jobId, { _tag: "released", count: deliveryCount ?? 0, delay })
          }
          return consumer.release(deliveries, delay)
        }
      }))
  }
  const stage: Stage = {
    driver,
    settled: new Map(),
    extended: new Map(),
    dead: [],
    received: 0,
    published: 0,
    releases: 0,
    receiving: undefined,
    failingAcks: 0,
    lease: undefined,
    maxReceives: Infinity,
    storeAway: false,
    pretended: new Map()
  }
  return stage
})

const pretendingStore = Effect.gen(function* () {
  const store = yield* JobStore
  const stage = yield* HintStage
  const unlessAway =
    <I, A>(operation: string, run: (input: I) => Effect.Effect<A, StoreError>) =>
    (input: I) =>
      Effect.suspend(() => (stage.storeAway ? Effect.fail(cut(operation)) : run(input)))
  return {
    ...store,
    claimHinted: (request: Parameters<typeof store.claimHinted>[0]) =>
      Effect.suspend(() => {
        if (stage.storeAway) return Effect.fail(cut("claimHinted"))
        const ids = request.ids.filter((id) => !stage.pretended.has(id))
        const pretended = request.ids.flatMap((id) => {
          const is = stage.pretended.get(id)
          return is === undefined ? [] : [{ id, ...is }]
        })
        return Effect.map(store.claimHinted({ ...request, ids }), ({ claimed, rest }) => ({
          claimed,
          rest: [...rest, ...pretended]
        }))
      }),
    claim: unlessAway("claim", store.claim),
    reap: unlessAway("reap", store.reap),
    get: unlessAway("get", store.get)
  }
})

/** The client and its ports on the stage. */
export const layer = (capabilities: Partial<Capabilities> = {}) =>
  Polyqueue.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Layer.effect(JobStore, pretendingStore).pipe(Layer.provide(JobStore.layerMemory)),
        Layer.effect(
          Broker,
          Effect.map(HintStage, ({ driver }) => driver)
        ),
        WorkerRegistry.layerMemory,
        Metrics.layerNoop
      )
    ),
    Layer.provideMerge(Layer.effect(HintStage, makeStage(capabilities)))
  )

/** Lets virtual time pass until something holds. Fails the test after ten minutes of it. */
export const until = Effect.fnUntraced(function* (holds: () => boolean) {
  for (let i = 0; i < 12_000 && !holds(); i++) yield* TestClock.adjust("50 millis")
  if (!holds()) return yield* Effect.die(new Error("it did not come to that within ten minutes of virtual time"))
})
