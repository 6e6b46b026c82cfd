import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer } from "effect"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { Patience } from "../../src/testing/broker/BrokerUnderTest.ts"
import * as ReferenceBroker from "../support/ReferenceBroker.ts"

const hooks = ["missingQueue", "outage", "restart"] as const

BrokerContract.suite("the reference broker", Layer.effect(BrokerContract.BrokerUnderTest, ReferenceBroker.make()), {
  capabilities: ReferenceBroker.capabilities,
  hooks
})

/** Which sentences notice a broker that breaks a promise. */
const broken: ReadonlyArray<readonly [ReferenceBroker.Flaw, ReadonlyArray<string>]> = [
  ["acks nothing", ["what is published is received, and acked is gone"]],
  ["answers too many", ["receive answers at most max"]],
  ["ignores the queue", ["a consumer receives from all its queues and from no other"]],
  ["delivers to everybody", ["two consumers never share a delivery"]],
  ["orders by arrival", ["higher priorities are received first"]],
  ["doubles a hint", ["publishing one job twice leaves one hint, the newest"]],
  ["keeps the oldest attempt", ["publishing one job twice leaves one hint, the newest"]],
  ["loses what an interrupted receive took", ["receive loses nothing when interrupted"]],
  ["purges nothing", ["purge drops all hints of a queue, or fails with Unsupported"]],
  [
    "never expires",
    ["a delivery whose lease ended is received again", "closing a consumer gives back what it held, or lets it expire"]
  ],
  ["extends nothing", ["extend keeps a delivery away from others, and answers per item, in order"]],
  [
    "extends with a stale receipt",
    ["extend of a delivery that a newer receipt owns answers LeaseLost and takes nothing back"]
  ],
  ["acks with a stale receipt", ["ack does not touch a delivery that a newer receipt owns"]],
  ["releases with a stale receipt", ["release does not touch a delivery that a newer receipt owns"]],
  [
    "fails the batch of a lost lease",
    [
      "a lost lease is an answer per item, never a failure of the batch",
      "a forged receipt is an answer per item, never a failure of the batch"
    ]
  ],
  ["answers in reverse order", ["a lost lease is an answer per item, never a failure of the batch"]],
  ["answers one outcome only", ["publish answers per item, in order"]],
  ["releases after a long time", ["release without delay makes a hint receivable at once"]],
  ["releases at once, whatever the delay", ["release makes a hint receivable again after delay, not earlier"]],
  ["waits for ever", ["receive answers [] when wait is over"]],
  ["is never healthy", ["health never fails and answers within a few seconds"]],
  ["counts nothing", ["depth answers a number where declared, undefined where not"]],
  [
    "makes missing queues",
    [
      "publish to a queue that does not exist fails with QueueNotFound, for that item alone",
      "a consumer of a queue that does not exist fails with QueueNotFound"
    ]
  ],
  [
    "throws in an outage",
    ["during an outage publish says so with a typed error, health reports it, and afterwards all is well"]
  ],
  ["forgets at a restart", ["a restart of the broker does not end a consumer"]],
  ["answers something for nothing", ["publish, extend, ack and release of nothing answer nothing"]],
  ["refuses a second publication", ["publishing a hint again is always allowed"]],
  ["cannot be interrupted", ["closing the scope of a consumer ends it while it waits"]],
  ["sleeps through what is published", ["a waiting receive is woken by what is published"]],
  ["loses one in a hundred", ["1,000 hints in batches arrive and are acked"]]
]

describe.concurrent("the broker contract notices a broker that", () => {
  for (const [flaw, sentences] of broken) {
    it.live.each(sentences)(`${flaw}: %s`, (sentence) =>
      Effect.gen(function* () {
        const one = BrokerContract.cases.find((_) => _.name === sentence)
        if (one === undefined) return assert.fail(`no case is called "${sentence}"`)
        const exit = yield* one.run.pipe(
          Effect.provideService(BrokerContract.BrokerUnderTest, yield* ReferenceBroker.make(flaw)),
          Effect.provideService(Patience, 1_500),
          Effect.scoped,
          Effect.exit
        )
        assert.isTrue(Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause), "the case fails")
      })
    )
  }

  it("every sentence for brokers that carry hints is noticed to be broken", () => {
    const covered = new Set(broken.flatMap(([, sentences]) => sentences))
    const uncovered = BrokerContract.cases
      .filter((one) => one.applies(ReferenceBroker.capabilities, hooks) && !covered.has(one.name))
      .map((one) => one.name)
    assert.deepStrictEqual(uncovered, [])
  })

  it("refuses to skip a sentence that does not exist", () => {
    const skipping = () =>
      BrokerContract.suite("x", Layer.effect(BrokerContract.BrokerUnderTest, ReferenceBroker.make()), {
        capabilities: ReferenceBroker.capabilities,
        skip: [{ test: "no such sentence", reason: "a typo" }]
      })
    assert.throws(skipping, /which is no case of it/)
  })
})
