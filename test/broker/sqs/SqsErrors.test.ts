/**
 * One taxonomy: what SQS, its SDK and the network say, as `BrokerError.reason`; what must never be said; deadlines and
 * second tries; configurations that are refused when the layer is built.
 */
import { GetQueueAttributesCommand } from "@aws-sdk/client-sqs"
import { assert, describe, it, vi } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import { inspect } from "node:util"
import { Broker } from "../../../src/Broker.ts"
import * as SqsBroker from "../../../src/broker/SqsBroker.ts"
import * as SqsClient from "../../../src/broker/sqs/SqsClient.ts"
import * as SqsErrorsOfBroker from "../../../src/broker/sqs/SqsErrors.ts"
import { BrokerError, type BrokerReason } from "../../../src/JobError.ts"
import { allOk, hintsFor, reasonOf } from "../../../src/testing/broker/BrokerUnderTest.ts"
import { standIn } from "../../support/Sqs.ts"
import { type Fault, SqsErrors } from "../../support/SqsServer.ts"

const aws = (name: string, message = "", extra: Record<string, unknown> = {}) =>
  Object.assign(new Error(message), { name, ...extra })
const node = (code: string) => Object.assign(new Error(`connect ${code} 127.0.0.1:1`), { code })

describe("the mapping", () => {
  const thrown: ReadonlyArray<readonly [unknown, BrokerReason]> = [
    [aws("QueueDoesNotExist", "", { Code: "AWS.SimpleQueueService.NonExistentQueue" }), "QueueNotFound"],
    [aws("AWS.SimpleQueueService.NonExistentQueue"), "QueueNotFound"],
    [aws("com.amazonaws.sqs#QueueDoesNotExist"), "QueueNotFound"],
    [aws("QueueDeletedRecently"), "QueueNotFound"],
    [aws("InvalidAddress"), "QueueNotFound"],
    [aws("RequestThrottled"), "Throttled"],
    [aws("ThrottlingException"), "Throttled"],
    [aws("KmsThrottled"), "Throttled"],
    [aws("PurgeQueueInProgress", "", { Code: "AWS.SimpleQueueService.PurgeQueueInProgress" }), "Throttled"],
    [aws("Unknown", "", { $metadata: { httpStatusCode: 429 } }), "Throttled"],
    [aws("OverLimit"), "QuotaExceeded"],
    [aws("AccessDeniedException"), "Unauthorized"],
    [aws("InvalidClientTokenId"), "Unauthorized"],
    [aws("SignatureDoesNotMatch"), "Unauthorized"],
    [aws("ExpiredTokenException"), "Unauthorized"],
    [aws("CredentialsProviderError", "Could not load credentials from any providers"), "Unauthorized"],
    [aws("Unknown", "", { $metadata: { httpStatusCode: 403 } }), "Unauthorized"],
    [aws("InvalidMessageContents"), "MessageRejected"],
    [aws("BatchRequestTooLong"), "MessageRejected"],
    [aws("InvalidParameterValue", "Message must be shorter than 1024 bytes."), "MessageRejected"],
    [aws("UnsupportedOperation"), "Unsupported"],
    [aws("KmsDisabled"), "Misconfigured"],
    [new Error("Region is missing"), "Misconfigured"],
    [Object.assign(new TypeError("Invalid URL"), { code: "ERR_INVALID_URL" }), "Misconfigured"],
    [node("ECONNREFUSED"), "Unavailable"],
    [node("ENOTFOUND"), "Unavailable"],
    [node("EAI_AGAIN"), "Unavailable"],
    [Object.assign(aws("TimeoutError", "socket hang up"), { code: "ECONNRESET" }), "Unavailable"],
    [new Error("socket hang up"), "Unavailable"],
    [aws("TimeoutError", "Socket timed out without establishing a connection within 3000 ms"), "Unavailable"],
    [aws("InternalFailure", "", { $metadata: { httpStatusCode: 500 } }), "Unavailable"],
    [aws("Whatever", "", { $metadata: { httpStatusCode: 503 } }), "Unavailable"],
    [aws("TimeoutError", "Connection timed out after 5000 ms"), "OutcomeUnknown"],
    [aws("AbortError", "Request aborted"), "OutcomeUnknown"],
    [aws("TooManyEntriesInBatchRequest"), "Unexpected"],
    ["not even an error", "Unexpected"],
    [undefined, "Unexpected"]
  ]
  it.each(thrown)("%s is %s", (error, reason) => {
    const mapped = SqsErrorsOfBroker.fromThrown("publish", "mail", error)
    assert.strictEqual(mapped.reason, reason)
    assert.strictEqual(mapped.operation, "publish")
    assert.include(mapped.message, 'on queue "mail"')
  })

  const entries: ReadonlyArray<readonly [string, string, boolean, BrokerReason | undefined]> = [
    ["ReceiptHandleIsInvalid", "", true, undefined],
    ["AWS.SimpleQueueService.MessageNotInflight", "", true, undefined],
    [
      "InvalidParameterValue",
      "Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
      true,
      undefined
    ],
    [
      "InvalidParameterValue",
      "Reason: Message does not exist or is not available for visibility timeout change.",
      true,
      undefined
    ],
    [
      "InvalidParameterValue",
      "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
      true,
      undefined
    ],
    ["InvalidParameterValue", "Message must be shorter than 1024 bytes.", true, "MessageRejected"],
    ["InvalidMessageContents", "", true, "MessageRejected"],
    ["InternalError", "", false, "Unavailable"],
    ["NeverHeardOf", "", false, "Unavailable"],
    ["NeverHeardOf", "", true, "Unexpected"],
    ["OverLimit", "", true, "QuotaExceeded"],
    ["KmsThrottled", "", false, "Throttled"]
  ]
  it.each(entries)("the entry %s %s, sender's fault %s, is %s", (Code, Message, SenderFault, reason) => {
    assert.strictEqual(SqsErrorsOfBroker.fromEntry("ack", "mail", { Code, Message, SenderFault })?.reason, reason)
  })

  it("keeps no header of a refused signature, and no more of the original than it needs", () => {
    const token = "FwoGZXIvYXdzEXAMPLETOKEN"
    const message = `The Canonical String for this request should have been 'POST / x-amz-security-token:${token}'`
    for (const name of ["SignatureDoesNotMatch", "InvalidSignatureException"]) {
      const original = aws(name, message, {
        Code: name,
        $metadata: { httpStatusCode: 403, requestId: "r-1" },
        $response: { headers: { authorization: token } }
      })
      const error = SqsErrorsOfBroker.fromThrown("publish", "mail", original)
      assert.strictEqual(error.reason, "Unauthorized")
      assert.notInclude(inspect(error, { depth: 10 }), token)
      assert.notInclude(JSON.stringify(error), token)
      assert.deepStrictEqual(error.cause, { name, code: name, status: 403, requestId: "r-1" })
    }
  })
})

/** A driver on the stand-in with a short deadline. */
const setup = Effect.fnUntraced(function* (options: Partial<SqsBroker.Options> = {}, attributes = {}) {
  const sqs = yield* standIn()
  const url = yield* Effect.promise(() => sqs.createQueue(attributes))
  const driver = yield* SqsBroker.make({ queueUrl: url, client: sqs.config, closeTimeout: 0, ...options })
  const publish = Effect.map(driver.publish(hintsFor("mail", 1)), ([outcome]) =>
    outcome?._tag === "Failed" ? outcome.error.reason : outcome?._tag
  )
  return { ...sqs, url, driver, publish }
})

describe("trouble on the way", () => {
  const error = (failure: InstanceType<typeof SqsErrors.SqsFailure>): Fault => ({ _tag: "Error", failure })
  const cases: ReadonlyArray<readonly [string, Fault, number, BrokerReason | "Ok", number]> = [
    ["two failures of the server are tried again", error(SqsErrors.internalFailure(503)), 2, "Ok", 3],
    ["three are too many", error(SqsErrors.internalFailure(500)), 3, "Unavailable", 3],
    ["throttling is tried again, and said in the end", error(SqsErrors.throttled()), 9, "Throttled", 3],
    ["a connection that is cut is tried again", { _tag: "Cut", when: "before" }, 1, "Ok", 2],
    ["an answer that is lost is asked for again", { _tag: "Cut", when: "after" }, 1, "Ok", 2],
    ["connections that are always cut", { _tag: "Cut", when: "before" }, 9, "Unavailable", 3],
    ["what is not allowed is not tried again", error(SqsErrors.accessDenied()), 9, "Unauthorized", 1],
    ["a full queue is not tried again", error(SqsErrors.overLimit()), 9, "QuotaExceeded", 1]
  ]
  for (const [name, fault, times, reason, requests] of cases) {
    it.live(name, () =>
      Effect.gen(function* () {
        const { publish, server } = yield* setup()
        server.fail("SendMessageBatch", fault, times)
        assert.strictEqual(yield* publish, reason)
        assert.lengthOf(server.requestsOf("SendMessageBatch"), requests)
        server.heal()
        assert.strictEqual(yield* publish, "Ok")
      })
    )
  }

  it.live("no answer: every request ends at its deadline with OutcomeUnknown, and is not repeated", () =>
    Effect.gen(function* () {
      const { driver, publish, server } = yield* setup({ requestTimeout: 300, longPoll: "1 second" })
      server.fail("*", { _tag: "Hang" }, 1_000)
      assert.strictEqual(yield* publish, "OutcomeUnknown")
      assert.strictEqual(yield* reasonOf(driver.depth("mail")), "OutcomeUnknown")
      const one = yield* driver.consumer({ queues: ["mail"], lease: 30_000 })
      const receiving = reasonOf(one.receive({ max: 1, wait: 1_000 }))
      assert.isUndefined(yield* receiving, "the wait was over first")
      assert.strictEqual(yield* receiving, "OutcomeUnknown")
      const health = yield* driver.health
      assert.isFalse(health.ok)
      assert.lengthOf(server.requestsOf("SendMessageBatch"), 1)
    })
  )

  it.live("a deadline holds where nothing can be interrupted", () =>
    Effect.gen(function* () {
      const { publish, server } = yield* setup({ requestTimeout: 300 })
      server.fail("*", { _tag: "Hang" }, 1_000)
      assert.strictEqual(yield* Effect.uninterruptible(publish), "OutcomeUnknown")
    })
  )

  it.live("a server that comes back is found again, without restart", () =>
    Effect.gen(function* () {
      const { driver, publish, server } = yield* setup()
      const one = yield* driver.consumer({ queues: ["mail"], lease: 30_000 })
      const waiting = yield* Effect.forkChild(reasonOf(one.receive({ max: 1, wait: 20_000 })))
      yield* Effect.promise(() => server.until(() => server.polls === 1))
      yield* Effect.promise(() => server.close())
      assert.strictEqual(yield* Fiber.join(waiting), "Unavailable")
      assert.strictEqual(yield* publish, "Unavailable")
      yield* Effect.promise(() => server.start())
      yield* Effect.repeat(publish, { until: (answer) => answer === "Ok", schedule: Schedule.spaced(20) })
      const got = yield* one.receive({ max: 1, wait: 20_000 })
      assert.lengthOf(got, 1)
    })
  )

  it.live("a queue that does not exist: publish, receive, depth and purge say so", () =>
    Effect.gen(function* () {
      const { config, url } = yield* setup()
      const queueUrls = { mail: url.replace(/[^/]+$/, "gone") }
      const driver = yield* SqsBroker.make({ queueUrls, client: config, closeTimeout: 0 })
      const one = yield* driver.consumer({ queues: ["mail"], lease: 30_000 })
      const [published] = yield* driver.publish(hintsFor("mail", 1))
      assert.strictEqual(published?._tag === "Failed" ? published.error.reason : undefined, "QueueNotFound")
      for (const asking of [one.receive({ max: 1, wait: 0 }), driver.depth("mail"), driver.purge("mail")]) {
        assert.strictEqual(yield* reasonOf<unknown, never>(asking), "QueueNotFound")
      }
    })
  )
})

describe("purge, depth and health", () => {
  it.live("purge empties a queue of its own, once a minute; a shared one is Unsupported", () =>
    Effect.gen(function* () {
      const { config, driver: shared, server, url } = yield* setup()
      assert.strictEqual(yield* reasonOf(shared.purge("mail")), "Unsupported")
      const alone = yield* SqsBroker.make({ queueUrls: { mail: url }, client: config, closeTimeout: 0 })
      assert.deepStrictEqual(yield* alone.publish(hintsFor("mail", 3)), allOk(3))
      assert.strictEqual(yield* alone.depth("mail"), 3)
      yield* alone.purge("mail")
      assert.strictEqual(server.size(url), 0)
      assert.strictEqual(yield* alone.depth("mail"), 0)
      assert.strictEqual(yield* reasonOf(alone.purge("mail")), "Throttled")
      const twins = yield* SqsBroker.make({ queueUrls: { mail: url, other: url }, client: config, closeTimeout: 0 })
      assert.strictEqual(yield* reasonOf(twins.purge("mail")), "Unsupported")
    })
  )

  it.live("health names what slows hints down or moves them away", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const create = (attributes: Record<string, string>) => Effect.promise(() => sqs.createQueue(attributes))
      const dead = yield* create({})
      const { Attributes } = yield* Effect.promise(() =>
        sqs.client.send(new GetQueueAttributesCommand({ QueueUrl: dead, AttributeNames: ["QueueArn"] }))
      )
      const policy = { deadLetterTargetArn: Attributes!.QueueArn, maxReceiveCount: 3 }
      const url = yield* create({ DelaySeconds: "5", RedrivePolicy: JSON.stringify(policy) })
      const driver = yield* SqsBroker.make({ queueUrl: url, client: sqs.config, closeTimeout: 0 })
      const { ok, problems } = yield* driver.health
      assert.isTrue(ok)
      assert.lengthOf(problems, 2)
      assert.match(problems[0]!, /DelaySeconds/)
      assert.match(problems[1]!, /maxReceiveCount/)
      sqs.server.fail("GetQueueAttributes", { _tag: "Error", failure: SqsErrors.accessDenied() })
      const denied = yield* driver.health
      assert.isFalse(denied.ok)
      assert.match(denied.problems[0]!, /sqs:SendMessage/)
    })
  )
})

describe("configuration", () => {
  const refused = (options: SqsBroker.Options) =>
    Effect.map(Effect.flip(Effect.scoped(Layer.build(SqsBroker.layer(options)))), (error) => {
      assert.strictEqual(error.reason, "Misconfigured")
      return error.message
    })

  it.effect("without the SDK it says which package to install", () =>
    Effect.gen(function* () {
      const missing = Object.assign(new Error("Cannot find package '@aws-sdk/client-sqs'"), {
        code: "ERR_MODULE_NOT_FOUND"
      })
      const load = SqsClient.load(() => Promise.reject(missing))
      const error = yield* Effect.flip(SqsBroker.make({ queueUrl: "https://sqs.eu-west-1.amazonaws.com/1/q" }, load))
      assert.instanceOf(error, BrokerError)
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "npm install @aws-sdk/client-sqs")
    })
  )

  it.effect("URLs that are missing, none, or contain credentials are refused, and not repeated", () =>
    Effect.gen(function* () {
      assert.include(yield* refused({}), "queueUrl")
      for (const queueUrl of ["mail", "sqs://mail", "https://sqs.eu-west-1.amazonaws.com/"]) {
        assert.include(yield* refused({ queueUrl }), "not the URL of an SQS queue")
      }
      const message = yield* refused({ queueUrls: { mail: "https://key:s3cret@sqs.eu-west-1.amazonaws.com/1/q" } })
      assert.include(message, "credentials")
      assert.notInclude(message, "s3cret")
    })
  )

  it.effect("a long poll that SQS does not have is refused", () =>
    Effect.gen(function* () {
      const queueUrl = "https://sqs.eu-west-1.amazonaws.com/1/q"
      for (const longPoll of [0, 500, "21 seconds"] as const) {
        assert.include(yield* refused({ queueUrl, longPoll }), "`longPoll`")
      }
    })
  )

  it.effect("a queue without a URL fails with QueueNotFound, in its place", () =>
    Effect.gen(function* () {
      const queueUrls = { mail: "https://sqs.eu-west-1.amazonaws.com/1/q" }
      const driver = yield* SqsBroker.make({ queueUrls, client: { region: "eu-west-1" } })
      const [outcome] = yield* driver.publish(hintsFor("other", 1))
      assert.strictEqual(outcome?._tag === "Failed" ? outcome.error.reason : undefined, "QueueNotFound")
      assert.strictEqual(yield* reasonOf(driver.consumer({ queues: ["mail", "other"], lease: 1_000 })), "QueueNotFound")
    })
  )

  it.effect("a missing region is Misconfigured", () =>
    Effect.gen(function* () {
      const noRegion = (): Promise<string> => Promise.reject(new Error("Region is missing"))
      const driver = yield* SqsBroker.make({
        queueUrl: "https://sqs.eu-west-1.amazonaws.com/1/q",
        client: { region: noRegion, credentials: { accessKeyId: "a", secretAccessKey: "b" } }
      })
      assert.strictEqual(yield* reasonOf(driver.depth("mail")), "Misconfigured")
    })
  )

  it.effect("layerConfig fails with a ConfigError when the variable is missing", () =>
    Effect.gen(function* () {
      const layer = SqsBroker.layerConfig({ queueUrl: Config.String("SQS_QUEUE_URL") })
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer))).pipe(
        Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({})))
      )
      assert.strictEqual(error._tag, "ConfigError")
    })
  )

  it.live("what the SDK warns of with every request is said once, in the log and not on the console", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const url = yield* Effect.promise(() => sqs.createQueue())
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const onConsole = vi.spyOn(console, "warn").mockImplementation(() => {})
      const before = process.env["AWS_ENDPOINT_URL_SQS"]
      yield* Effect.gen(function* () {
        // The environment names another endpoint than the URL: the SDK goes to the URL's
        process.env["AWS_ENDPOINT_URL_SQS"] = "http://127.0.0.1:1"
        const { endpoint: _, ...client } = sqs.config
        const driver = yield* SqsBroker.make({ queueUrl: url, client, closeTimeout: 0 })
        for (let n = 0; n < 3; n++) assert.deepStrictEqual(yield* driver.publish(hintsFor("mail", 1)), allOk(1))
      }).pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.ensuring(
          Effect.sync(() => {
            if (before === undefined) delete process.env["AWS_ENDPOINT_URL_SQS"]
            else process.env["AWS_ENDPOINT_URL_SQS"] = before
          })
        )
      )
      assert.lengthOf(onConsole.mock.calls, 0)
      onConsole.mockRestore()
      assert.lengthOf(lines, 1)
      assert.include(lines[0]!, "differs from SQSClient resolved endpoint")
    })
  )

  it.live("layerConfig makes the Broker from variables", () =>
    Effect.gen(function* () {
      const sqs = yield* standIn()
      const url = yield* Effect.promise(() => sqs.createQueue())
      const { credentials } = sqs.config
      const layer = SqsBroker.layerConfig({
        queueUrl: Config.String("SQS_QUEUE_URL"),
        endpoint: Config.String("SQS_ENDPOINT"),
        region: Config.String("REGION"),
        ...(credentials === undefined ? {} : { client: { credentials } })
      })
      const published = yield* Broker.use((broker) => broker.publish(hintsFor("mail", 1))).pipe(
        Effect.provide(layer),
        Effect.provide(
          ConfigProvider.layer(
            ConfigProvider.fromUnknown({ SQS_QUEUE_URL: url, SQS_ENDPOINT: sqs.server.endpoint, REGION: "eu-west-1" })
          )
        )
      )
      assert.deepStrictEqual(published, allOk(1))
      assert.strictEqual(sqs.server.size(url), 1)
    })
  )
})
