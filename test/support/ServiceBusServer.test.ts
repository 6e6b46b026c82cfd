/**
 * The local Service Bus against what Microsoft documents, through the vendor's SDK: what the broker's tests take for
 * granted about the server is written down, and checked, here.
 */
import { type ServiceBusReceivedMessage, ServiceBusClient, type ServiceBusReceiver } from "@azure/service-bus"
import { randomUUID } from "node:crypto"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { ServiceBusServer } from "./ServiceBusServer.ts"
import type { EmulatedQueue, QueueOptions } from "./serviceBus/EmulatedQueue.ts"

let server: ServiceBusServer
let client: ServiceBusClient

beforeAll(async () => {
  server = await ServiceBusServer.start()
  client = new ServiceBusClient(server.connectionString, { retryOptions: { maxRetries: 0, timeoutInMs: 5_000 } })
})
afterAll(async () => {
  await client.close()
  await server.close()
})

/** A queue of the test's own, with a sender and a receiver. */
const fresh = (options: QueueOptions = {}) => {
  const name = `q-${randomUUID()}`
  const queue: EmulatedQueue = server.createQueue(name, options)
  const sender = client.createSender(name)
  const receiver = client.createReceiver(name, { maxAutoLockRenewalDurationInMs: 0 })
  return { name, queue, sender, receiver }
}
const WAIT = { maxWaitTimeInMs: 5_000 }
const message = (body: unknown) => ({ body, messageId: randomUUID() })
const one = async (receiver: ServiceBusReceiver): Promise<ServiceBusReceivedMessage> => {
  const [first] = await receiver.receiveMessages(1, WAIT)
  assert.isDefined(first, "a message comes")
  return first!
}
const none = async (receiver: ServiceBusReceiver) =>
  assert.deepStrictEqual(await receiver.receiveMessages(1, { maxWaitTimeInMs: 200 }), [])
const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: unknown) => Reflect.get(error as object, "code")
  )

describe("peek-lock", () => {
  it("hands a message to one receiver, with a lock token, a lock and a sequence number", async () => {
    const { queue, receiver, sender } = fresh()
    await sender.sendMessages({ ...message("a"), applicationProperties: { k: 1 } })
    const got = await one(receiver)
    assert.deepStrictEqual([got.body, got.deliveryCount, got.applicationProperties], ["a", 0, { k: 1 }])
    assert.isTrue(queue.locks.has(got.lockToken!), "the SDK reads the token that we locked under")
    assert.isAbove(got.lockedUntilUtc!.getTime(), got.enqueuedTimeUtc!.getTime())
    assert.isAbove(got.sequenceNumber!.toNumber(), 0)
    await none(receiver)
  })

  it("complete removes it; a second time is refused", async () => {
    const { queue, receiver, sender } = fresh()
    await sender.sendMessages(message("a"))
    const got = await one(receiver)
    await receiver.completeMessage(got)
    assert.deepStrictEqual(queue.counts, { active: 0, locked: 0, scheduled: 0, deferred: 0, dead: 0 })
    assert.notStrictEqual(await codeOf(receiver.completeMessage(got)), "no error")
  })

  it("abandon makes it receivable at once, counted, with the properties changed", async () => {
    const { receiver, sender } = fresh()
    await sender.sendMessages(message("a"))
    await receiver.abandonMessage(await one(receiver), { why: "later" })
    const again = await one(receiver)
    assert.deepStrictEqual([again.deliveryCount, again.applicationProperties?.why], [1, "later"])
  })

  it("a lock that ends gives the message to the next, counted; the old token can settle and renew nothing", async () => {
    const { queue, receiver, sender } = fresh()
    await sender.sendMessages(message("a"))
    const lost = await one(receiver)
    queue.expireAll()
    const taken = await one(receiver)
    assert.deepStrictEqual([taken.body, taken.deliveryCount], ["a", 1])
    assert.notStrictEqual(taken.lockToken, lost.lockToken)
    assert.strictEqual(await codeOf(receiver.completeMessage(lost)), "MessageLockLost")
    assert.strictEqual(await codeOf(receiver.renewMessageLock(lost)), "MessageLockLost")
    await receiver.completeMessage(taken)
  })

  it("a lock ends by itself after the lock duration, and renewal resets it to the lock duration", async () => {
    const { queue, receiver, sender } = fresh({ lockDuration: 1_500 })
    await sender.sendMessages([message("held"), message("left")])
    const [held, left] = await receiver.receiveMessages(2, WAIT)
    const before = held!.lockedUntilUtc!
    while (queue.locks.has(left!.lockToken!)) {
      assert.isAbove((await receiver.renewMessageLock(held!)).getTime(), before.getTime() - 1)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    assert.isTrue(queue.locks.has(held!.lockToken!), "the renewed one is still locked")
    assert.strictEqual((await one(receiver)).body, "left")
  })

  it("after the maximum of deliveries it is dead-lettered, with the reason", async () => {
    const { name, receiver, sender } = fresh({ maxDeliveryCount: 2 })
    await sender.sendMessages(message("a"))
    await receiver.abandonMessage(await one(receiver))
    await receiver.abandonMessage(await one(receiver))
    await none(receiver)
    const dead = await one(client.createReceiver(name, { subQueueType: "deadLetter" }))
    assert.deepStrictEqual([dead.deadLetterReason, dead.deadLetterSource], ["MaxDeliveryCountExceeded", name])
  })

  it("deadLetterMessage moves it, with what the client says", async () => {
    const { name, receiver, sender } = fresh()
    await sender.sendMessages(message("a"))
    const why = { deadLetterReason: "bad", deadLetterErrorDescription: "not ours", detail: "x" }
    await receiver.deadLetterMessage(await one(receiver), why)
    const dead = await one(client.createReceiver(name, { subQueueType: "deadLetter" }))
    assert.deepStrictEqual(
      [dead.deadLetterReason, dead.deadLetterErrorDescription, dead.applicationProperties?.detail],
      ["bad", "not ours", "x"]
    )
  })

  it("a deferred message is received by its sequence number only", async () => {
    const { receiver, sender } = fresh()
    await sender.sendMessages(message("a"))
    const got = await one(receiver)
    await receiver.deferMessage(got)
    await none(receiver)
    const [deferred] = await receiver.receiveDeferredMessages(got.sequenceNumber!)
    assert.deepStrictEqual([deferred?.body, deferred?.state], ["a", "deferred"])
    await receiver.completeMessage(deferred!)
  })

  it("receive-and-delete locks nothing", async () => {
    const { name, queue, sender } = fresh()
    await sender.sendMessages(message("a"))
    const receiver = client.createReceiver(name, { receiveMode: "receiveAndDelete" })
    assert.strictEqual((await one(receiver)).body, "a")
    assert.strictEqual(queue.counts.locked + queue.counts.active, 0)
  })
})

describe("links", () => {
  it("an empty receive ends, and its drained credit takes no later message", async () => {
    const { queue, receiver, sender } = fresh()
    await none(receiver)
    await sender.sendMessages(message("a"))
    assert.deepStrictEqual([queue.counts.active, queue.counts.locked], [1, 0])
  })

  it("a waiting receive is woken by a message", async () => {
    const { receiver, sender } = fresh()
    const waiting = one(receiver)
    while (server.receivers(receiver.entityPath) === 0) await new Promise((resolve) => setTimeout(resolve, 10))
    await sender.sendMessages(message("a"))
    assert.strictEqual((await waiting).body, "a")
  })

  it("closing a receiver leaves its messages locked, and they can be settled through another one", async () => {
    const { name, queue, receiver, sender } = fresh()
    await sender.sendMessages(message("a"))
    const got = await one(receiver)
    await receiver.close()
    assert.strictEqual(queue.counts.locked, 1)
    await client.createReceiver(name).completeMessage(got)
    assert.strictEqual(queue.counts.locked, 0)
    assert.isAbove(server.calls.get("com.microsoft:update-disposition") ?? 0, 0)
  })

  it("batches travel as one message, up to the size that the link says", async () => {
    const { receiver, sender } = fresh()
    const before = server.calls.get("send") ?? 0
    await sender.sendMessages(Array.from({ length: 20 }, (_, index) => message(index)))
    assert.strictEqual((server.calls.get("send") ?? 0) - before, 1)
    const got = await receiver.receiveMessages(20, WAIT)
    assert.deepStrictEqual(
      got.map(({ body }) => body),
      Array.from({ length: 20 }, (_, index) => index)
    )
    const batch = await sender.createMessageBatch()
    assert.strictEqual(batch.maxSizeInBytes, 262_144)
  })

  it("a queue that does not exist is MessagingEntityNotFound, for senders and receivers", async () => {
    const sending = client.createSender("nowhere").sendMessages(message("a"))
    assert.strictEqual(await codeOf(sending), "MessagingEntityNotFound")
    const receiving = client.createReceiver("nowhere").receiveMessages(1, { maxWaitTimeInMs: 200 })
    assert.strictEqual(await codeOf(receiving), "MessagingEntityNotFound")
  })

  it("a receiver works again after its link was detached by the service", async () => {
    const { name, receiver, sender } = fresh()
    await none(receiver)
    server.detach(name)
    await sender.sendMessages(message("a"))
    const got = await receiver.receiveMessages(1, WAIT).catch(() => receiver.receiveMessages(1, WAIT))
    assert.strictEqual(got[0]?.body, "a")
  })
})

describe("scheduled messages", () => {
  it("come at their time, not before, and are seen by peek", async () => {
    const { receiver, sender } = fresh()
    const at = new Date(Date.now() + 1_000)
    await sender.scheduleMessages(message("later"), at)
    const [seen] = await receiver.peekMessages(10)
    assert.deepStrictEqual([seen?.state, seen?.scheduledEnqueueTimeUtc?.getTime()], ["scheduled", at.getTime()])
    assert.strictEqual((await one(receiver)).body, "later")
    assert.isAtLeast(Date.now(), at.getTime())
  })

  it("can be cancelled once, by their sequence number", async () => {
    const { queue, sender } = fresh()
    const numbers = await sender.scheduleMessages([message(1), message(2)], new Date(Date.now() + 60_000))
    assert.strictEqual(queue.counts.scheduled, 2)
    await sender.cancelScheduledMessages(numbers)
    assert.strictEqual(queue.counts.scheduled, 0)
    assert.strictEqual(await codeOf(sender.cancelScheduledMessages(numbers)), "MessageNotFound")
  })

  it("count for duplicate detection, which drops what was sent under the same id", async () => {
    const { queue, sender } = fresh({ duplicateDetection: true })
    await sender.sendMessages({ body: "a", messageId: "same" })
    await sender.sendMessages({ body: "b", messageId: "same" })
    await sender.scheduleMessages({ body: "c", messageId: "same" }, new Date(Date.now() + 60_000))
    assert.deepStrictEqual([queue.counts.active, queue.counts.scheduled], [1, 0])
  })
})

describe("faults", () => {
  it("refuse what is sent, with the service's own conditions", async () => {
    const { name, sender } = fresh()
    const refusals = {
      "com.microsoft:server-busy": "ServiceBusy",
      "amqp:resource-limit-exceeded": "QuotaExceeded",
      "amqp:link:message-size-exceeded": "MessageSizeExceeded",
      "com.microsoft:entity-disabled": "MessagingEntityDisabled"
    }
    for (const [condition, code] of Object.entries(refusals)) {
      server.faults.send = (entity) => (entity === name ? { condition, description: "on purpose" } : undefined)
      assert.strictEqual(await codeOf(sender.sendMessages(message("a"))), code)
    }
    server.faults.send = undefined
    await sender.sendMessages(message("a"))
  })

  it("refuse to authorise", async () => {
    server.faults.authorize = () => 401
    const { sender } = fresh()
    assert.strictEqual(await codeOf(sender.sendMessages(message("a"))), "UnauthorizedAccess")
    server.faults.authorize = undefined
  })

  it("leave connections reset: the SDK notices, and connects again", async () => {
    const { queue, receiver, sender } = fresh()
    const cut = receiver.receiveMessages(1, WAIT).catch(() => [])
    while (![...queue.outlets].some((outlet) => outlet.hasCredit()))
      await new Promise((resolve) => setTimeout(resolve, 10))
    server.dropConnections()
    assert.deepStrictEqual(await cut, [])
    await sender.sendMessages(message("a"))
    assert.strictEqual((await one(receiver)).body, "a")
  })
})
