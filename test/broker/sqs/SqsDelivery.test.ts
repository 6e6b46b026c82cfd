/**
 * What is special about deliveries on SQS, seen in the stand-in's log: batches of ten and nothing else, polls that are
 * never aborted, messages that nobody takes, holds of at most 12 hours, foreign and misrouted messages.
 */
import { ReceiveMessageCommand, SendMessageCommand } from "@aws-sdk/client-sqs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Scope } from "effect"
import type { Consumer, Delivery } from "../../../src/broker/BrokerDriver.ts"
import * as SqsBroker from "../../../src/broker/SqsBroker.ts"
import { allOk, hintsFor, idsOf, receive, receiveNothing, tags } from "../../../src/testing/broker/BrokerUnderTest.ts"
import { standIn } from "../../support/Sqs.ts"
import { SqsErrors } from "../../support/SqsServer.ts"

const HOUR = 3_600_000
const LEASE = 30_000

/** A broker on one fresh SQS queue for the Polyqueue queue `mail`. */
const setup = Effect.fnUntraced(function* (options: Partial<SqsBroker.Options> = {}, attributes = {}) {
  const sqs = yield* standIn()
  const url = yield* Effect.promise(() => sqs.createQueue(attributes))
  const driver = yield* SqsBroker.make({
    queueUrl: url,
    client: sqs.config,
    longPoll: "20 seconds",
    closeTimeout: 0,
    ...options
  })
  const consumer = driver.consumer({ queues: ["mail"], lease: LEASE })
  const until = (holds: () => boolean) => Effect.promise(() => sqs.server.until(holds))
  /** The server's own view of a message that can be received now. */
  const visible = Effect.promise(async () => {
    const command = new ReceiveMessageCommand({
      QueueUrl: url,
      WaitTimeSeconds: 20,
      VisibilityTimeout: 0,
      MessageSystemAttributeNames: ["All"]
    })
    return (await sqs.client.send(command)).Messages ?? []
  })
  return { ...sqs, url, driver, consumer, until, visible }
})

/** Receives `count` deliveries, as many at a time as there may be. */
const receiveAll = (consumer: Consumer, count: number) => receive(consumer, count)

const actions = (requests: ReadonlyArray<{ readonly action: string }>) =>
  [...new Set(requests.map((_) => _.action))].sort()

describe("batches of ten", () => {
  it.live("500 held deliveries are published, renewed and acked ten at a time, and no request is about one job", () =>
    Effect.gen(function* () {
      const { consumer, driver, server } = yield* setup()
      const entries = (action: string) => server.requestsOf(action).map((request) => request.entries)
      const fifty = Array.from({ length: 50 }, () => 10)
      const start = server.requests.length
      assert.deepStrictEqual(yield* driver.publish(hintsFor("mail", 500)), allOk(500))
      assert.deepStrictEqual(entries("SendMessageBatch"), fifty)
      const one = yield* consumer
      const held = yield* receiveAll(one, 500)
      assert.isAtMost(entries("ReceiveMessage").length, 60)
      assert.strictEqual(server.requestsOf("ReceiveMessage")[0]!.request["VisibilityTimeout"], LEASE / 1_000)
      assert.deepStrictEqual(yield* one.extend(held, LEASE), allOk(500))
      assert.deepStrictEqual(entries("ChangeMessageVisibilityBatch"), fifty)
      assert.deepStrictEqual(yield* one.ack(held), allOk(500))
      assert.deepStrictEqual(entries("DeleteMessageBatch"), fifty)
      assert.deepStrictEqual(actions(server.requests.slice(start)), [
        "ChangeMessageVisibilityBatch",
        "DeleteMessageBatch",
        "ReceiveMessage",
        "SendMessageBatch"
      ])
    })
  )

  it.live("an item that SQS did not take fails alone, in its place", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, url } = yield* setup()
      const fault = { _tag: "Entries", failure: SqsErrors.internalFailure(), indexes: [0, 4] } as const
      const someFail: ReturnType<typeof tags> = ["Failed", "Ok", "Ok", "Ok", "Failed", "Ok"]
      server.fail("SendMessageBatch", fault)
      const published = yield* driver.publish(hintsFor("mail", 6))
      assert.deepStrictEqual(tags(published), someFail)
      assert.strictEqual(published[0]?._tag === "Failed" ? published[0].error.reason : undefined, "Unavailable")
      assert.strictEqual(server.size(url), 4)
      yield* driver.publish(hintsFor("mail", 2))
      const one = yield* consumer
      const held = yield* receiveAll(one, 6)
      server.fail("ChangeMessageVisibilityBatch", fault)
      assert.deepStrictEqual(tags(yield* one.extend(held, LEASE)), someFail)
      server.fail("DeleteMessageBatch", fault)
      assert.deepStrictEqual(tags(yield* one.ack(held)), someFail)
      assert.strictEqual(server.size(url), 2)
    })
  )

  it.live("deliveries of several SQS queues are settled together, and answered in their places", () =>
    Effect.gen(function* () {
      const { config, createQueue, server } = yield* standIn()
      const [mail, news] = yield* Effect.promise(() => Promise.all([createQueue(), createQueue()]))
      const queueUrls = { mail: mail!, news: news! }
      const driver = yield* SqsBroker.make({ queueUrls, client: config, closeTimeout: 0 })
      const hints = Array.from({ length: 6 }, (_, index) => hintsFor(index % 2 === 0 ? "mail" : "news", 1)[0]!)
      assert.deepStrictEqual(yield* driver.publish(hints), allOk(6))
      assert.deepStrictEqual([server.size(mail!), server.size(news!)], [3, 3])
      const one = yield* driver.consumer({ queues: ["mail", "news"], lease: LEASE })
      const got = yield* receiveAll(one, 6)
      const held = hints.map((hint) => got.find((delivery) => delivery.hint.jobId === hint.jobId)!)
      assert.deepStrictEqual(yield* one.extend(held, LEASE), allOk(6))
      yield* one.ack([held[3]!])
      assert.deepStrictEqual(tags(yield* one.extend(held, LEASE)), ["Ok", "Ok", "Ok", "LeaseLost", "Ok", "Ok"])
      assert.deepStrictEqual(yield* one.ack(held), allOk(6))
      assert.deepStrictEqual([server.size(mail!), server.size(news!)], [0, 0])
    })
  )

  it.live("a batch that fails does not fail the others", () =>
    Effect.gen(function* () {
      const { driver, server } = yield* setup()
      server.fail("SendMessageBatch", { _tag: "Error", failure: SqsErrors.accessDenied() })
      const outcomes = yield* driver.publish(hintsFor("mail", 30))
      assert.strictEqual(outcomes.filter((outcome) => outcome._tag === "Ok").length, 20)
      assert.strictEqual(outcomes.filter((outcome) => outcome._tag === "Failed").length, 10)
    })
  )
})

describe("polls", () => {
  it.live("an interrupted receive does not abort its poll: what it brings goes to the next receive", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until } = yield* setup()
      const one = yield* consumer
      const fiber = yield* Effect.forkChild(one.receive({ max: 1, wait: 20_000 }))
      yield* until(() => server.polls === 1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(server.polls, 1)
      const [hint] = hintsFor("mail", 1)
      yield* driver.publish([hint!])
      yield* until(() => server.polls === 0)
      const got = yield* receive(one, 1)
      assert.deepStrictEqual(idsOf(got), [hint!.jobId])
      assert.strictEqual(got[0]!.deliveryCount, 1)
      assert.lengthOf(server.requestsOf("ReceiveMessage"), 1)
    })
  )

  it.live("what an interrupted receive's poll brings after the consumer closed is given back at once", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until, visible } = yield* setup({ closeTimeout: "20 seconds" })
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(consumer, scope)
      yield* Effect.forkIn(one.receive({ max: 1, wait: 20_000 }), scope)
      yield* until(() => server.polls === 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(server.polls, 1, "closing waits for no poll and aborts none")
      yield* driver.publish(hintsFor("mail", 1))
      yield* until(() => server.requestsOf("ChangeMessageVisibilityBatch").some((request) => request.status === 200))
      assert.lengthOf(yield* visible, 1, "long before the lease ended")
    })
  )

  it.live("so is a hint of another queue, without the delay that an open consumer asks for", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until } = yield* setup({ closeTimeout: "20 seconds" })
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(consumer, scope)
      yield* Effect.forkIn(one.receive({ max: 1, wait: 20_000 }), scope)
      yield* until(() => server.polls === 1)
      yield* Scope.close(scope, Exit.void)
      yield* driver.publish(hintsFor("other", 1))
      yield* until(() => server.requestsOf("ChangeMessageVisibilityBatch").some((request) => request.status === 200))
      const [request] = server.requestsOf("ChangeMessageVisibilityBatch")
      assert.strictEqual(request!.request["Entries"][0].VisibilityTimeout, 0)
    })
  )

  it.live("what a poll brought and no receive took is given back when the consumer closes", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until, visible } = yield* setup()
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(consumer, scope)
      const fiber = yield* Effect.forkChild(one.receive({ max: 1, wait: 20_000 }))
      yield* until(() => server.polls === 1)
      yield* Fiber.interrupt(fiber)
      yield* driver.publish(hintsFor("mail", 1))
      yield* until(() => server.requestsOf("ReceiveMessage")[0]?.status === 200)
      // The answer is at the client when a later request has been answered
      yield* driver.depth("mail")
      yield* Scope.close(scope, Exit.void)
      assert.lengthOf(server.requestsOf("ChangeMessageVisibilityBatch"), 1)
      assert.lengthOf(yield* visible, 1)
    })
  )

  it.live("what a poll brought and no receive takes is given back by itself, so that others can have it", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until, visible } = yield* setup()
      const one = yield* consumer
      const fiber = yield* Effect.forkChild(one.receive({ max: 1, wait: 20_000 }))
      yield* until(() => server.polls === 1)
      yield* Fiber.interrupt(fiber)
      yield* driver.publish(hintsFor("mail", 1))
      yield* until(() => server.requestsOf("ChangeMessageVisibilityBatch").some((request) => request.status === 200))
      assert.lengthOf(yield* visible, 1)
    })
  )

  it.live("closing the broker waits for polls and gives back what they bring", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const url = yield* Effect.promise(() => sqs.createQueue())
      const scope = yield* Scope.make()
      const driver = yield* Scope.provide(
        SqsBroker.make({ queueUrl: url, client: sqs.config, longPoll: "20 seconds" }),
        scope
      )
      const one = yield* Scope.provide(driver.consumer({ queues: ["mail"], lease: LEASE }), scope)
      yield* Effect.forkIn(one.receive({ max: 1, wait: 20_000 }), scope)
      yield* Effect.promise(() => sqs.server.until(() => sqs.server.polls === 1))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Effect.promise(() => sqs.client.send(messageFor(url, "mail")))
      yield* Fiber.join(closing)
      assert.lengthOf(sqs.server.requestsOf("ChangeMessageVisibilityBatch"), 1)
      assert.strictEqual(sqs.server.polls, 0)
    })
  )

  it.live("closing the broker does not wait longer than closeTimeout, and leaves no connection", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const url = yield* Effect.promise(() => sqs.createQueue())
      const before = yield* Effect.promise(() => sqs.server.connections())
      yield* Effect.scoped(
        Effect.gen(function* () {
          const driver = yield* SqsBroker.make({
            queueUrl: url,
            client: sqs.config,
            longPoll: "20 seconds",
            closeTimeout: 100
          })
          const one = yield* driver.consumer({ queues: ["mail"], lease: LEASE })
          yield* driver.publish(hintsFor("mail", 1))
          yield* receive(one, 1)
          yield* Effect.forkScoped(one.receive({ max: 1, wait: 20_000 }))
          yield* Effect.promise(() => sqs.server.until(() => sqs.server.polls === 1))
        })
      )
      assert.strictEqual(sqs.server.polls, 1, "the poll had 20 seconds to go")
      const left = yield* Effect.repeat(
        Effect.promise(() => sqs.server.connections()),
        { until: (count) => count <= before }
      )
      assert.isAtMost(left, before)
    })
  )

  it.live("a quiet queue is polled by one request at a time, a full one by several", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until } = yield* setup()
      const one = yield* consumer
      const idle = yield* Effect.forkChild(one.receive({ max: 100, wait: 1_000 }))
      yield* until(() => server.polls > 0)
      assert.deepStrictEqual(yield* Fiber.join(idle), [])
      assert.lengthOf(server.requestsOf("ReceiveMessage"), 1)
      yield* driver.publish(hintsFor("mail", 300))
      server.fail("ReceiveMessage", { _tag: "Delay", millis: 30 }, 1_000)
      const got: Array<Delivery> = []
      let most = 0
      const watching = server.until(() => {
        most = Math.max(most, server.requestsOf("ReceiveMessage").filter((_) => _.status === undefined).length)
        return got.length >= 300
      })
      while (got.length < 300) got.push(...(yield* one.receive({ max: 100, wait: 1_000 })))
      yield* driver.depth("mail")
      yield* Effect.promise(() => watching)
      assert.isAtLeast(most, 4)
      assert.isAtMost(most, 10)
    })
  )

  it.live("receives that wait for a second each share one long poll, and a hint ends the wait at once", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until } = yield* setup({ longPoll: "19 seconds" })
      const one = yield* consumer
      for (let n = 0; n < 3; n++) assert.deepStrictEqual(yield* one.receive({ max: 10, wait: 1_000 }), [])
      const polls = server.requestsOf("ReceiveMessage")
      assert.deepStrictEqual(
        polls.map(({ request }) => request["WaitTimeSeconds"]),
        [19]
      )
      const waiting = yield* Effect.forkChild(one.receive({ max: 10, wait: 60_000 }), { startImmediately: true })
      const [hint] = hintsFor("mail", 1)
      yield* driver.publish([hint!])
      assert.deepStrictEqual(idsOf(yield* Fiber.join(waiting)), [hint!.jobId])
      assert.lengthOf(server.requestsOf("ReceiveMessage"), 1)
      // Who does not wait, or not long, starts no poll that somebody would have to wait for
      yield* one.receive({ max: 10, wait: 0 })
      yield* one.receive({ max: 10, wait: 100 })
      yield* until(() => server.polls === 0)
      assert.deepStrictEqual(
        server.requestsOf("ReceiveMessage").map(({ request }) => request["WaitTimeSeconds"]),
        [19, 0, 1]
      )
    })
  )

  it.live("the wait for polls when the broker closes is longer than a poll, if nothing else is said", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const url = yield* Effect.promise(() => sqs.createQueue())
      yield* Effect.scoped(
        Effect.gen(function* () {
          const driver = yield* SqsBroker.make({ queueUrl: url, client: sqs.config, longPoll: "1 second" })
          const one = yield* driver.consumer({ queues: ["mail"], lease: LEASE })
          yield* Effect.forkScoped(one.receive({ max: 1, wait: 1_000 }))
          yield* Effect.promise(() => sqs.server.until(() => sqs.server.polls === 1))
        })
      )
      assert.deepStrictEqual(
        sqs.server.requestsOf("ReceiveMessage").map(({ status }) => status),
        [200]
      )
    })
  )

  it.live("renewals and publishes do not wait behind long polls, however many consumers there are", () =>
    Effect.gen(function* () {
      const { driver, server, until } = yield* setup()
      // More than the SDK has sockets by default
      for (let index = 0; index < 60; index++) {
        const one = yield* driver.consumer({ queues: [`quiet-${index}`], lease: LEASE })
        yield* Effect.forkScoped(one.receive({ max: 1, wait: 20_000 }))
      }
      yield* until(() => server.polls === 60)
      assert.isDefined(yield* driver.depth("mail"))
      assert.strictEqual(server.polls, 60)
    })
  )

  it.live("one of several SQS queues that fails does not keep the hints of the others away", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const url = yield* Effect.promise(() => sqs.createQueue())
      const queueUrls = { mail: url, gone: url.replace(/[^/]+$/, "gone") }
      const driver = yield* SqsBroker.make({ queueUrls, client: sqs.config, closeTimeout: 0 })
      const one = yield* driver.consumer({ queues: ["gone", "mail"], lease: LEASE })
      const fiber = yield* Effect.forkChild(one.receive({ max: 1, wait: 20_000 }))
      yield* Effect.promise(() => sqs.server.until(() => sqs.server.polls === 1))
      const [hint] = hintsFor("mail", 1)
      yield* driver.publish([hint!])
      assert.deepStrictEqual(idsOf(yield* Fiber.join(fiber)), [hint!.jobId])
      const error = yield* Effect.flip(one.receive({ max: 1, wait: 500 }))
      assert.strictEqual(error.reason, "QueueNotFound", "and it is not hidden either")
    })
  )
})

describe("holds", () => {
  /** The delivery as if it had been received earlier. */
  const agedBy = (delivery: Delivery, millis: number): Delivery => ({
    ...delivery,
    receipt: delivery.receipt.replace(/:(\d+):/, (_, since) => `:${Number(since) - millis}:`)
  })

  it.live("are asked for within SQS's 12 hours, and are LeaseLost after them", () =>
    Effect.gen(function* () {
      const { consumer, driver, server } = yield* setup()
      yield* driver.publish(hintsFor("mail", 1))
      const one = yield* consumer
      const [held] = yield* receiveAll(one, 1)
      const asked = () =>
        server.requestsOf("ChangeMessageVisibilityBatch").at(-1)!.request["Entries"][0].VisibilityTimeout
      const old = agedBy(held!, 12 * HOUR - 20_000)
      assert.deepStrictEqual(yield* one.extend([old], LEASE), allOk(1))
      assert.isBelow(asked(), 20)
      assert.deepStrictEqual(tags(yield* one.extend([agedBy(held!, 12 * HOUR)], LEASE)), ["LeaseLost"])
      assert.lengthOf(server.requestsOf("ChangeMessageVisibilityBatch"), 1)
      assert.deepStrictEqual(yield* one.release([agedBy(held!, HOUR)], 20 * HOUR), allOk(1))
      assert.isAbove(asked(), 10.9 * 3_600)
      assert.isBelow(asked(), 11 * 3_600)
    })
  )

  it.live("a delay of part of a second is a second, none is none", () =>
    Effect.gen(function* () {
      const { consumer, driver, server } = yield* setup()
      yield* driver.publish(hintsFor("mail", 2))
      const one = yield* consumer
      const [a, b] = yield* receiveAll(one, 2)
      yield* one.release([a!], 1)
      yield* one.release([b!], 0)
      const asked = server
        .requestsOf("ChangeMessageVisibilityBatch")
        .map((_) => _.request["Entries"][0].VisibilityTimeout)
      assert.deepStrictEqual(asked, [1, 0])
    })
  )

  it.effect("a lease longer than SQS can hold is refused", () =>
    Effect.gen(function* () {
      const driver = yield* SqsBroker.make({
        queueUrl: "https://sqs.eu-west-1.amazonaws.com/1/q",
        client: { region: "x" }
      })
      const error = yield* Effect.flip(driver.consumer({ queues: ["mail"], lease: 13 * HOUR }))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "12 hours")
    })
  )
})

describe("messages that are not for us", () => {
  it.live("no hint: removed, and said in the log without its content", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ message }) => void logged.push(String(message)))
    return Effect.gen(function* () {
      const { client, consumer, driver, server, url } = yield* setup()
      yield* Effect.promise(() => client.send(new SendMessageCommand({ QueueUrl: url, MessageBody: "s3cret-payload" })))
      yield* Effect.promise(() => client.send(new SendMessageCommand({ QueueUrl: url, MessageBody: '{"pq":99}' })))
      const hints = hintsFor("mail", 1)
      yield* driver.publish(hints)
      const one = yield* consumer
      assert.deepStrictEqual(idsOf(yield* receiveAll(one, 1)), idsOf(hints))
      yield* receiveNothing(one)
      assert.strictEqual(server.size(url), 1)
      assert.include(logged.join("\n"), "2 so far")
      assert.notInclude(logged.join("\n"), "s3cret")
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.live("a hint of a queue that is not served here: released with a growing delay, removed at the third time", () =>
    Effect.gen(function* () {
      const { consumer, driver, server, until, url } = yield* setup()
      yield* driver.publish(hintsFor("other", 1))
      const one = yield* consumer
      const delays = () =>
        server.requestsOf("ChangeMessageVisibilityBatch").map((_) => Number(_.request["Entries"][0].VisibilityTimeout))
      for (let times = 1; times <= 2; times++) {
        yield* receiveNothing(one, 100)
        yield* until(() => delays().length === times)
        assert.isAtLeast(delays().at(-1)!, 2 ** (times - 1))
        assert.isAtMost(delays().at(-1)!, 2 ** times)
        server.advance(60_000)
      }
      yield* receiveNothing(one, 100)
      yield* until(() => server.requestsOf("DeleteMessageBatch").some((_) => _.status === 200))
      assert.strictEqual(server.size(url), 0)
    })
  )
})

describe("FIFO", () => {
  it.live("one publication twice is one hint, a newer publication is another", () =>
    Effect.gen(function* () {
      const { consumer, driver } = yield* setup({}, { FifoQueue: "true" })
      assert.isTrue(driver.capabilities.fenced)
      const [hint] = hintsFor("mail", 1)
      assert.deepStrictEqual(yield* driver.publish([hint!, hint!]), allOk(2))
      const one = yield* consumer
      yield* one.ack(yield* receiveAll(one, 1))
      yield* driver.publish([hint!])
      yield* receiveNothing(one)
      yield* driver.publish([{ ...hint!, publication: 2 }])
      assert.strictEqual((yield* receiveAll(one, 1))[0]!.hint.publication, 2)
    })
  )
})

describe("loss", () => {
  it.live("everything in the queue may vanish: leases are LeaseLost or Ok, and what is published again arrives", () =>
    Effect.gen(function* () {
      const { consumer, driver, server } = yield* setup()
      const hints = hintsFor("mail", 3)
      yield* driver.publish(hints)
      const one = yield* consumer
      const held = yield* receiveAll(one, 3)
      server.wipe()
      assert.deepStrictEqual(tags(yield* one.extend(held, LEASE)), ["LeaseLost", "LeaseLost", "LeaseLost"])
      yield* driver.publish(hints.map((hint) => ({ ...hint, publication: 2 })))
      assert.deepStrictEqual(idsOf(yield* receiveAll(one, 3)), idsOf(hints))
    })
  )
})

const messageFor = (QueueUrl: string, queue: string) => {
  const { jobId } = hintsFor(queue, 1)[0]!
  return new SendMessageCommand({
    QueueUrl,
    MessageBody: JSON.stringify({ pq: 1, j: jobId, q: queue, a: 1, p: 5, n: 1 })
  })
}
