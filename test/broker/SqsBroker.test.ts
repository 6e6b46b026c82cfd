/** The contract suite on standard queues, on FIFO queues and on one SQS queue that all Polyqueue queues share. */
import { Effect, Layer } from "effect"
import * as SqsBroker from "../../src/broker/SqsBroker.ts"
import * as BrokerContract from "../../src/testing/BrokerContract.ts"
import { isStandIn, scopedSqs } from "../support/Sqs.ts"

/** More than the suite asks for: a broker knows its queues when it is made. */
const QUEUES = 60

const hooks: ReadonlyArray<"outage" | "restart" | "missingQueue"> = isStandIn
  ? ["outage", "restart", "missingQueue"]
  : ["missingQueue"]

/** A broker under test: its options from the URLs of fresh SQS queues. */
const underTest = (
  attributes: Record<string, string>,
  optionsOf: (urls: ReadonlyArray<string>) => SqsBroker.Options,
  missingQueue: string | undefined
) =>
  Layer.effect(
    BrokerContract.BrokerUnderTest,
    Effect.gen(function* () {
      const sqs = yield* scopedSqs()
      const urls = yield* Effect.promise(() =>
        Promise.all(Array.from({ length: QUEUES }, () => sqs.createQueue(attributes)))
      )
      const driver = yield* SqsBroker.make({ ...optionsOf(urls), client: sqs.config, closeTimeout: 0 })
      const { server } = sqs
      let next = 0
      return {
        driver,
        queue: () => Effect.sync(() => queueName(next++)),
        ...(missingQueue === undefined ? {} : { missingQueue }),
        ...(server === undefined
          ? {}
          : {
              expireLease: ({ receipt }) => Effect.sync(() => server.expire(receipt.split(":").slice(2).join(":"))),
              outage: Effect.acquireRelease(
                Effect.promise(() => server.close()),
                () => Effect.promise(() => server.start())
              ),
              restart: Effect.promise(() => server.close().then(() => server.start()))
            })
      }
    })
  )

const queueName = (index: number) => `queue-${index}`

const ownQueues = (urls: ReadonlyArray<string>): SqsBroker.Options => ({
  queueUrls: Object.fromEntries(urls.map((url, index) => [queueName(index), url]))
})

const standard = SqsBroker.capabilities({ queueUrl: "https://sqs.eu-west-1.amazonaws.com/1/q" })

BrokerContract.suite("SqsBroker, a standard queue each", underTest({}, ownQueues, "unknown"), {
  capabilities: standard,
  hooks
})

BrokerContract.suite("SqsBroker, a FIFO queue each", underTest({ FifoQueue: "true" }, ownQueues, "unknown"), {
  capabilities: { ...standard, fenced: true },
  hooks
})

BrokerContract.suite(
  "SqsBroker, one queue for all",
  underTest({}, (urls) => ({ queueUrl: urls[0]! }), undefined),
  // Side by side they would receive each other's hints
  { capabilities: standard, hooks: hooks.filter((hook) => hook !== "missingQueue"), concurrent: false }
)
