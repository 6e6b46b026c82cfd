/**
 * What AWS documents about SQS, asked through the real SDK: of the stand-in, and of any other server that
 * `POLYQUEUE_TEST_SQS_ENDPOINT` names. Time passes by the stand-in's clock; elsewhere it really passes.
 */
import {
  ChangeMessageVisibilityBatchCommand,
  ChangeMessageVisibilityCommand,
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  DeleteMessageCommand,
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ListDeadLetterSourceQueuesCommand,
  type Message,
  PurgeQueueCommand,
  QueueDoesNotExist,
  type ReceiveMessageCommandInput,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  type SendMessageCommandInput,
  SendMessageCommand,
  SetQueueAttributesCommand,
  StartMessageMoveTaskCommand
} from "@aws-sdk/client-sqs"
import { randomUUID } from "node:crypto"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { isStandIn, openSqs, type Sqs } from "./Sqs.ts"
import { SqsErrors } from "./SqsServer.ts"

let sqs: Sqs
beforeAll(async () => {
  sqs = await openSqs()
})
afterAll(() => sqs.close())

const create = (attributes?: Record<string, string>) => sqs.createQueue(attributes)
const send = (QueueUrl: string, MessageBody: string, more: Partial<SendMessageCommandInput> = {}) =>
  sqs.client.send(new SendMessageCommand({ QueueUrl, MessageBody, ...more }))
const receive = async (
  QueueUrl: string,
  more: Partial<ReceiveMessageCommandInput> = {}
): Promise<ReadonlyArray<Message>> =>
  (
    await sqs.client.send(
      new ReceiveMessageCommand({
        QueueUrl,
        MaxNumberOfMessages: 10,
        MessageSystemAttributeNames: ["All"],
        MessageAttributeNames: ["All"],
        // Short polls of the real one may miss messages
        ...(isStandIn ? {} : { WaitTimeSeconds: 1 }),
        ...more
      })
    )
  ).Messages ?? []
const remove = (QueueUrl: string, ReceiptHandle: string | undefined) =>
  sqs.client.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle }))
const hide = (QueueUrl: string, ReceiptHandle: string | undefined, VisibilityTimeout: number) =>
  sqs.client.send(new ChangeMessageVisibilityCommand({ QueueUrl, ReceiptHandle, VisibilityTimeout }))
const attributes = async (QueueUrl: string): Promise<Record<string, string>> =>
  (await sqs.client.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }))).Attributes ?? {}
const pass = async (millis: number) => {
  if (sqs.server === undefined) await new Promise((resolve) => setTimeout(resolve, millis))
  else sqs.server.advance(millis)
}
const bodies = (messages: ReadonlyArray<Message>) => messages.map((message) => message.Body)
const refused = async (request: Promise<unknown>, ...names: ReadonlyArray<string>) => {
  const error = await request.then(
    () => new Error("it was accepted"),
    (error: Error) => error
  )
  assert.include(names, error.name, error.message)
  return error
}
/** Waits until a poll waits at the server; elsewhere, long enough for one to arrive. */
const polling = (count = 1) => sqs.server?.until(() => sqs.server!.polls >= count) ?? pass(300)

describe("limits and errors", () => {
  it("a queue that does not exist", async () => {
    const error = await refused(sqs.client.send(new GetQueueUrlCommand({ QueueName: "nope" })), "QueueDoesNotExist")
    assert.instanceOf(error, QueueDoesNotExist)
    const missing = (await create()).replace(/[^/]+$/, "nope")
    await refused(send(missing, "x"), "QueueDoesNotExist")
    await refused(receive(missing), "QueueDoesNotExist")
  })

  it("create is idempotent, with the same attributes only", async () => {
    const QueueName = `same-${randomUUID()}`
    const make = (VisibilityTimeout: string) =>
      sqs.client.send(new CreateQueueCommand({ QueueName, Attributes: { VisibilityTimeout } }))
    assert.strictEqual((await make("5")).QueueUrl, (await make("5")).QueueUrl)
    await refused(make("6"), "QueueNameExists")
  })

  it("numbers out of bounds, bodies that are none, unknown attributes", async () => {
    const url = await create()
    await refused(receive(url, { MaxNumberOfMessages: 11 }), "InvalidParameterValue", "ReadCountOutOfRange")
    await refused(receive(url, { WaitTimeSeconds: 21 }), "InvalidParameterValue")
    await refused(send(url, "x", { DelaySeconds: 901 }), "InvalidParameterValue")
    await refused(send(url, ""), "MissingParameter", "InvalidParameterValue")
    await refused(send(url, "a\u0001b"), "InvalidMessageContents")
    await refused(send(url, "x".repeat(1_100 * 1_024)), "InvalidParameterValue")
    await send(url, "x".repeat(300 * 1_024))
    const bogus = new SetQueueAttributesCommand({ QueueUrl: url, Attributes: { Bogus: "1" } as Record<string, string> })
    await refused(sqs.client.send(bogus), "InvalidAttributeName")
    const [held] = await receive(url)
    await refused(hide(url, held!.ReceiptHandle, 43_201), "InvalidParameterValue")
  })

  it("a message can be held for 12 hours in all", async () => {
    const url = await create()
    await send(url, "x")
    const [held] = await receive(url, { VisibilityTimeout: 60 })
    await pass(2_000)
    await refused(hide(url, held!.ReceiptHandle, 43_200), "InvalidParameterValue")
    await hide(url, held!.ReceiptHandle, 43_000)
  })
})

describe("messages and receipts", () => {
  it("round trip, system attributes, counts", async () => {
    const url = await create()
    await send(url, "job-1 é✓", { MessageAttributes: { t: { DataType: "String", StringValue: "v" } } })
    const [message] = await receive(url, { VisibilityTimeout: 30 })
    assert.strictEqual(message!.Body, "job-1 é✓")
    assert.strictEqual(message!.MessageAttributes?.["t"]?.StringValue, "v")
    assert.containsAllKeys(message!.Attributes, [
      "ApproximateReceiveCount",
      "SentTimestamp",
      "ApproximateFirstReceiveTimestamp",
      "SenderId"
    ])
    const found = await attributes(url)
    assert.strictEqual(found["ApproximateNumberOfMessages"], "0")
    assert.strictEqual(found["ApproximateNumberOfMessagesNotVisible"], "1")
    assert.strictEqual(found["VisibilityTimeout"], "30")
    await remove(url, message!.ReceiptHandle)
    await remove(url, message!.ReceiptHandle)
    assert.strictEqual((await attributes(url))["ApproximateNumberOfMessagesNotVisible"], "0")
    await refused(hide(url, message!.ReceiptHandle, 5), "InvalidParameterValue", "MessageNotInflight")
  })

  it("a handle that is none", async () => {
    const url = await create()
    await refused(remove(url, "garbage"), "ReceiptHandleIsInvalid")
    await refused(hide(url, "garbage", 1), "ReceiptHandleIsInvalid")
  })

  it("is received again when its visibility timeout ends, counted, with a new handle", async () => {
    const url = await create()
    await send(url, "v")
    const [first] = await receive(url, { VisibilityTimeout: 1 })
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 0 }), [])
    await pass(1_200)
    const [second] = await receive(url, { VisibilityTimeout: 2 })
    assert.strictEqual(second!.MessageId, first!.MessageId)
    assert.notStrictEqual(second!.ReceiptHandle, first!.ReceiptHandle)
    assert.strictEqual(second!.Attributes?.ApproximateReceiveCount, "2")
    // "The request will succeed, but the message might not be deleted"
    await remove(url, first!.ReceiptHandle)
    assert.strictEqual((await attributes(url))["ApproximateNumberOfMessagesNotVisible"], "1")
    await hide(url, first!.ReceiptHandle, 0).catch(() => undefined)
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 0 }), [])
    await hide(url, second!.ReceiptHandle, 4)
    await pass(2_400)
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 0 }), [])
    await hide(url, second!.ReceiptHandle, 0)
    const [third] = await receive(url, { VisibilityTimeout: 1 })
    assert.strictEqual(third!.Attributes?.ApproximateReceiveCount, "3")
    await pass(1_200)
    await refused(hide(url, third!.ReceiptHandle, 30), "MessageNotInflight")
    await remove(url, third!.ReceiptHandle)
    assert.strictEqual((await attributes(url))["ApproximateNumberOfMessages"], "0")
  })

  it("delays of the queue and of a message", async () => {
    const url = await create({ DelaySeconds: "5" })
    await send(url, "later")
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 0 }), [])
    assert.strictEqual((await attributes(url))["ApproximateNumberOfMessagesDelayed"], "1")
    await send(url, "now", { DelaySeconds: 0 })
    assert.deepStrictEqual(bodies(await receive(url)), ["now"])
    await pass(5_200)
    assert.deepStrictEqual(bodies(await receive(url)), ["later"])
  })
})

describe("long polls", () => {
  it("an empty one ends without messages", async () => {
    assert.deepStrictEqual(await receive(await create(), { WaitTimeSeconds: 1 }), [])
  })

  it("is woken by a message, by a delay that ends and by a visibility timeout that ends", async () => {
    const url = await create()
    const first = receive(url, { WaitTimeSeconds: 20 })
    await polling()
    await send(url, "x")
    const [message] = await first
    const second = receive(url, { WaitTimeSeconds: 20 })
    await polling()
    await hide(url, message!.ReceiptHandle, 1)
    await pass(1_100)
    const [again] = await second
    assert.strictEqual(again!.MessageId, message!.MessageId)
    await remove(url, again!.ReceiptHandle)
    await send(url, "delayed", { DelaySeconds: 1 })
    const third = receive(url, { WaitTimeSeconds: 20 })
    await polling()
    await pass(1_100)
    assert.deepStrictEqual(bodies(await third), ["delayed"])
  })

  it("two of them never share a message", async () => {
    const url = await create()
    const polls = [1, 2].map(() => receive(url, { WaitTimeSeconds: 20, MaxNumberOfMessages: 1 }))
    await polling(2)
    const Entries = ["a", "b"].map((body) => ({ Id: body, MessageBody: body }))
    await sqs.client.send(new SendMessageBatchCommand({ QueueUrl: url, Entries }))
    assert.deepStrictEqual((await Promise.all(polls)).flatMap(bodies).sort(), ["a", "b"])
  })

  it.skipIf(!isStandIn)("one that was aborted takes a message along, as AWS's may", async () => {
    const url = await create()
    const aborting = new AbortController()
    const command = new ReceiveMessageCommand({ QueueUrl: url, WaitTimeSeconds: 20, VisibilityTimeout: 60 })
    const dead = sqs.client.send(command, { abortSignal: aborting.signal })
    await polling()
    aborting.abort()
    await refused(dead, "AbortError")
    await send(url, "swallowed")
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 1 }), [])
    await pass(60_000)
    assert.deepStrictEqual(bodies(await receive(url)), ["swallowed"])
  })
})

describe("batches", () => {
  const entries = (count: number) => Array.from({ length: count }, (_, i) => ({ Id: `e${i}`, MessageBody: `b${i}` }))
  const sendBatch = (QueueUrl: string, Entries: ReadonlyArray<{ Id: string; MessageBody: string }>) =>
    sqs.client.send(new SendMessageBatchCommand({ QueueUrl, Entries: [...Entries] }))

  it("have one to ten entries with distinct ids and at most 1 MiB", async () => {
    const url = await create()
    assert.lengthOf((await sendBatch(url, entries(10))).Successful ?? [], 10)
    await refused(sendBatch(url, entries(11)), "TooManyEntriesInBatchRequest")
    await refused(sendBatch(url, []), "EmptyBatchRequest")
    await refused(sendBatch(url, [...entries(1), ...entries(1)]), "BatchEntryIdsNotDistinct")
    await refused(sendBatch(url, [{ Id: "a b!", MessageBody: "1" }]), "InvalidBatchEntryId")
    const big = entries(3).map((entry) => ({ ...entry, MessageBody: "x".repeat(500 * 1_024) }))
    await refused(sendBatch(url, big), "BatchRequestTooLong")
  })

  it("answer 200 with failures inside", async () => {
    const url = await create()
    const sent = await sqs.client.send(
      new SendMessageBatchCommand({
        QueueUrl: url,
        Entries: [...entries(3), { Id: "bad", MessageBody: "b", DelaySeconds: 5_000 }]
      })
    )
    assert.lengthOf(sent.Successful ?? [], 3)
    assert.deepStrictEqual(
      sent.Failed?.map(({ Id, SenderFault }) => [Id, SenderFault]),
      [["bad", true]]
    )
    const [held] = await receive(url, { MaxNumberOfMessages: 1 })
    const changed = await sqs.client.send(
      new ChangeMessageVisibilityBatchCommand({
        QueueUrl: url,
        Entries: [
          { Id: "a", ReceiptHandle: held!.ReceiptHandle, VisibilityTimeout: 60 },
          { Id: "b", ReceiptHandle: "garbage", VisibilityTimeout: 60 }
        ]
      })
    )
    assert.lengthOf(changed.Successful ?? [], 1)
    assert.strictEqual(changed.Failed?.[0]?.Code, "ReceiptHandleIsInvalid")
    const deleted = await sqs.client.send(
      new DeleteMessageBatchCommand({
        QueueUrl: url,
        Entries: [
          { Id: "a", ReceiptHandle: "garbage" },
          { Id: "b", ReceiptHandle: held!.ReceiptHandle }
        ]
      })
    )
    assert.deepStrictEqual(
      [deleted.Successful?.map((entry) => entry.Id), deleted.Failed?.map((entry) => entry.Code)],
      [["b"], ["ReceiptHandleIsInvalid"]]
    )
  })
})

describe("dead-letter queues", () => {
  it("get what was received too often, and give it back", async () => {
    const dead = await create()
    const deadLetterTargetArn = (await attributes(dead))["QueueArn"]!
    const policy = (arn: string) => ({
      RedrivePolicy: JSON.stringify({ deadLetterTargetArn: arn, maxReceiveCount: 2 })
    })
    const url = await create(policy(deadLetterTargetArn))
    await send(url, "poison")
    let id: string | undefined
    for (let round = 0; round < 2; round++) {
      const [message] = await receive(url)
      id = message!.MessageId
      await hide(url, message!.ReceiptHandle, 0)
    }
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 1 }), [])
    const [moved] = await receive(dead)
    assert.strictEqual(moved!.MessageId, id)
    assert.isString(moved!.Attributes?.DeadLetterQueueSourceArn)
    const sources = await sqs.client.send(new ListDeadLetterSourceQueuesCommand({ QueueUrl: dead }))
    assert.lengthOf(sources.queueUrls ?? [], 1)
    await hide(dead, moved!.ReceiptHandle, 0)
    await sqs.client.send(new StartMessageMoveTaskCommand({ SourceArn: deadLetterTargetArn }))
    assert.deepStrictEqual(bodies(await receive(url, { WaitTimeSeconds: 10 })), ["poison"])
    await refused(create(policy(`${deadLetterTargetArn}zz`)), "InvalidParameterValue", "QueueDoesNotExist")
  })
})

describe("FIFO queues", () => {
  const fifo = () => create({ FifoQueue: "true" })
  const put = (url: string, body: string, MessageGroupId: string, MessageDeduplicationId: string) =>
    send(url, body, { MessageGroupId, MessageDeduplicationId })

  it("want a group and a deduplication id, and no delay", async () => {
    const url = await fifo()
    await refused(send(url, "x", { MessageDeduplicationId: "1" }), "MissingParameter")
    await refused(send(url, "x", { MessageGroupId: "g" }), "InvalidParameterValue")
    await refused(put(url, "x", "g", "d".repeat(129)), "InvalidParameterValue")
    const delayed = send(url, "x", { MessageGroupId: "g", MessageDeduplicationId: "d", DelaySeconds: 1 })
    await refused(delayed, "InvalidParameterValue")
    await refused(
      sqs.client.send(new CreateQueueCommand({ QueueName: "x", Attributes: { FifoQueue: "true" } })),
      "InvalidParameterValue"
    )
  })

  it("take a deduplication id once in five minutes", async () => {
    const url = await fifo()
    const first = await put(url, "a", "g", "1")
    assert.strictEqual((await put(url, "a", "g", "1")).MessageId, first.MessageId)
    const [message] = await receive(url)
    await remove(url, message!.ReceiptHandle)
    await put(url, "a", "g", "1")
    assert.deepStrictEqual(await receive(url, { WaitTimeSeconds: 0 }), [])
    if (sqs.server === undefined) return
    await pass(300_000)
    await put(url, "again", "g", "1")
    assert.deepStrictEqual(bodies(await receive(url)), ["again"])
  })

  it("lock a group while one of it is in flight, and keep its order", async () => {
    const url = await fifo()
    await put(url, "a1", "a", "1")
    await put(url, "a2", "a", "2")
    await put(url, "b1", "b", "3")
    const [a1] = await receive(url, { MaxNumberOfMessages: 1, VisibilityTimeout: 30 })
    assert.strictEqual(a1!.Body, "a1")
    assert.deepStrictEqual(bodies(await receive(url)), ["b1"])
    await remove(url, a1!.ReceiptHandle)
    const [a2] = await receive(url, { VisibilityTimeout: 1 })
    assert.strictEqual(a2!.Body, "a2")
    await pass(1_200)
    await refused(remove(url, a2!.ReceiptHandle), "InvalidParameterValue", "ReceiptHandleIsInvalid")
  })
})

describe("purge and deletion", () => {
  it("purge empties, once a minute", async () => {
    const url = await create()
    await send(url, "x")
    await sqs.client.send(new PurgeQueueCommand({ QueueUrl: url }))
    assert.strictEqual((await attributes(url))["ApproximateNumberOfMessages"], "0")
    await refused(sqs.client.send(new PurgeQueueCommand({ QueueUrl: url })), "PurgeQueueInProgress")
  })

  it("a deleted queue is gone, and its name stays taken for a minute", async () => {
    const QueueName = `gone-${randomUUID()}`
    const { QueueUrl } = await sqs.client.send(new CreateQueueCommand({ QueueName }))
    await sqs.client.send(new DeleteQueueCommand({ QueueUrl }))
    await refused(send(QueueUrl!, "x"), "QueueDoesNotExist")
    await refused(sqs.client.send(new CreateQueueCommand({ QueueName })), "QueueDeletedRecently")
    // Nobody waits for that elsewhere
    if (sqs.server === undefined) return
    await pass(61_000)
    await sqs.client.send(new CreateQueueCommand({ QueueName }))
  })
})

describe.skipIf(!isStandIn)("faults of the stand-in", () => {
  it("come as often as asked, then it works again", async () => {
    const url = await create()
    sqs.server!.fail("SendMessage", { _tag: "Error", failure: SqsErrors.throttled() }, 2)
    await refused(send(url, "x"), "RequestThrottled")
    await refused(send(url, "x"), "RequestThrottled")
    await send(url, "x")
    sqs.server!.fail("*", { _tag: "Error", failure: SqsErrors.internalFailure(503) })
    const failure = await refused(send(url, "x"), "InternalFailure")
    assert.propertyVal(failure, "$fault", "server")
  })

  it("a cut connection loses the request or its answer only", async () => {
    const url = await create()
    sqs.server!.fail("SendMessage", { _tag: "Cut", when: "before" })
    await refused(send(url, "x"), "Error", "TimeoutError")
    assert.strictEqual(sqs.server!.size(url), 0)
    sqs.server!.fail("SendMessage", { _tag: "Cut", when: "after" })
    await refused(send(url, "x"), "Error", "TimeoutError")
    assert.strictEqual(sqs.server!.size(url), 1)
  })

  it("loses and doubles messages on request", async () => {
    const fates = ["lost", "doubled", "kept"] as const
    let next = 0
    const other = await openSqs({ fate: () => fates[next++]! }, "")
    const url = await other.createQueue()
    for (const MessageBody of ["a", "b", "c"])
      await other.client.send(new SendMessageCommand({ QueueUrl: url, MessageBody }))
    const got = await other.client.send(new ReceiveMessageCommand({ QueueUrl: url, MaxNumberOfMessages: 10 }))
    assert.deepStrictEqual(bodies(got.Messages ?? []), ["b", "b", "c"])
    await other.close()
  })

  it("keeps its queues while it is down", async () => {
    const url = await create()
    await send(url, "kept")
    await sqs.server!.close()
    await refused(send(url, "x"), "Error", "AggregateError", "TimeoutError")
    await sqs.server!.start()
    assert.deepStrictEqual(bodies(await receive(url)), ["kept"])
  })
})
