/**
 * No regular expression or check that others can feed takes time that grows with the square of its input. Each is given
 * hostile texts of 25,000 characters, and of four times as many: linear work takes 4 times as long, quadratic 16 times.
 * Processor time is measured; what is too fast to measure cannot be quadratic at this size.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Redacted } from "effect"
import { threadCpuUsage } from "node:process"
import * as HintMessage from "../../src/broker/HintMessage.ts"
import * as PgmqQueueName from "../../src/broker/pgmq/QueueName.ts"
import * as PgmqReceipt from "../../src/broker/pgmq/Receipt.ts"
import * as RedisErrors from "../../src/broker/redis/Errors.ts"
import * as RedisMessage from "../../src/broker/redis/Message.ts"
import * as RedisSettings from "../../src/broker/redis/Settings.ts"
import * as ServiceBusFailure from "../../src/broker/serviceBus/Failure.ts"
import * as SqsErrors from "../../src/broker/sqs/SqsErrors.ts"
import * as Visible from "../../src/cli/Visible.ts"
import * as DraftCheck from "../../src/client/DraftCheck.ts"
import * as Kinds from "../../src/config/Kinds.ts"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import * as Secrets from "../../src/config/Secrets.ts"
import * as Urls from "../../src/config/Urls.ts"
import { Job } from "../../src/index.ts"
import { JobDefaults } from "../../src/JobPolicy.ts"
import * as ErrorText from "../../src/store/ErrorText.ts"
import * as JsonText from "../../src/store/JsonText.ts"
import * as Names from "../../src/store/postgres/Names.ts"

const draft: DraftCheck.Draft = {
  id: "018f6b5e-0000-7000-8000-000000000000",
  freshId: false,
  type: "T",
  queue: "q",
  priority: 5,
  delay: 0,
  runAt: undefined,
  payload: null,
  maxAttempts: undefined,
  retryDelays: undefined,
  timeout: undefined,
  timeoutThen: undefined,
  key: undefined,
  keyScope: "retained",
  tags: []
}
const check = (over: Partial<DraftCheck.Draft>) =>
  DraftCheck.check({ ...draft, ...over }, JobDefaults.defaultValue(), { hinted: true, publishIn: 0 }, undefined)
const failed = (message: string) => Object.assign(new Error(message), { code: message })

const subjects: Readonly<Record<string, (text: string) => unknown>> = {
  "the id of a job": (text) => [Effect.runSyncExit(Job.id(text)), check({ id: text })],
  "the type, queue, key and tags of a job": (text) => [
    check({ type: text }),
    check({ queue: text }),
    check({ key: text }),
    check({ tags: Array.from({ length: 16 }, () => text) })
  ],
  "a payload": (text) => check({ payload: { [text]: text } }),
  "stored text": (text) => [JsonText.encode(text, 1e9), JsonText.sanitize(text, 1e9)],
  "the names of schema, prefix and role": (text) => [
    Names.make({ schema: text, prefix: text }),
    Names.quote("role", text)
  ],
  "a hint": (text) => [
    HintMessage.decode(text),
    HintMessage.decode(JSON.stringify({ pq: 1, j: text, q: text, a: 0, p: 0, n: 1 })),
    RedisMessage.decode(text, text, text)
  ],
  "a receipt of PGMQ": (text) => PgmqReceipt.decode("queue", text),
  "the name of a PGMQ queue": (text) => [PgmqQueueName.isBase(text), PgmqQueueName.pgmqQueue("base", text)],
  "an error of Redis": (text) => [
    RedisErrors.toBrokerError("x", failed(text)),
    RedisErrors.toBrokerError("x", text, text)
  ],
  "an error of SQS": (text) => [
    SqsErrors.fromThrown("x", "q", failed(text)),
    SqsErrors.fromEntry("x", "q", { Code: text, Message: text })
  ],
  "an error of Service Bus": (text) => ServiceBusFailure.from("x", "q", failed(text), (words) => words),
  "what a handler fails with": (text) => [ErrorText.messageOf(failed(text)), ErrorText.oneLine(text)],
  "a setting": (text) => [
    Secrets.isSuspicious(text),
    Secrets.shown(text, false),
    Secrets.withoutCredentials(text),
    Kinds.name.read(text),
    Kinds.boolean.read(text),
    Kinds.int(0, 9).read(text),
    Kinds.seconds(0, 9).read(text),
    Kinds.milliseconds(0, 9).read(text),
    Kinds.secondsList(9).read(text)
  ],
  "a connection string": (text) => {
    const around = [
      text,
      `postgres://${text}`,
      `redis://h/${text}`,
      `;${text}`,
      `https://sqs.${text}.amazonaws.com/1/q`
    ]
    return around.map((one) => [
      Urls.postgres(one),
      Urls.redis(one),
      Urls.serviceBus(one),
      Urls.isSqs(one),
      Urls.sqsRegion(one),
      Effect.runSyncExit(RedisSettings.parse({ url: Redacted.make(one), prefix: one }))
    ])
  },
  "whether connections insist on TLS": (text) =>
    Effect.runSyncExit(
      PolyqueueConfig.plainText(
        PolyqueueConfig.fromObject({
          dbUrl: `postgres://h/db?host=${encodeURIComponent(text.toWellFormed())}`,
          backend: "azure_service_bus",
          azureSbConnectionString: `Endpoint=sb://h${text};SharedAccessKey=k;${text}`
        })
      )
    ),
  "what the command line prints": (text) => [
    Visible.line(text),
    Visible.lines(text),
    Visible.json(text),
    Visible.fit(text, 80)
  ]
}

const patterns = [
  ..."a0A -_;=:@/\\.,[{\"'%\n\t\u0000\u001b\u200b",
  "\ud800",
  "\\u0000",
  "\\\\u",
  ":@",
  "://",
  ";=",
  "; ",
  "0.",
  "a-",
  "a_",
  "1:1",
  "1,",
  "=;",
  "password",
  "Endpoint=sb://",
  ", with args beginning with:"
]
const texts = (length: number) =>
  patterns.flatMap((pattern) => {
    const text = pattern.repeat(Math.ceil(length / pattern.length)).slice(0, length)
    return [`${text}!`, `1:${text}`]
  })
const short = texts(25_000)
const long = texts(100_000)

/** Processor time of this thread, in ms. */
const cost = (subject: (text: string) => unknown, inputs: ReadonlyArray<string>): number => {
  const before = threadCpuUsage()
  for (const text of inputs) subject(text)
  const { system, user } = threadCpuUsage(before)
  return (user + system) / 1_000
}

/** Below this, 100,000 characters were not looked at 100,000 times: that is 10,000,000,000 steps per text. */
const floor = 50

/** One try of three is enough: garbage collection can make work look longer, nothing can make it look shorter. */
const isLinear = (subject: (text: string) => unknown, of = short, ofFour = long): boolean => {
  for (let tries = 0; tries < 3; tries++) {
    const atFour = cost(subject, ofFour)
    if (atFour < floor || atFour / Math.max(cost(subject, of), 1) < 8) return true
  }
  return false
}

describe("is read in linear time:", () => {
  it.each(Object.keys(subjects))("%s", { timeout: 120_000 }, (name) => {
    assert.isTrue(isLinear(subjects[name]!))
  })

  it("as this test would notice if it were not", () => {
    const quadratic = (text: string) => {
      let count = 0
      for (let i = 0; i < text.length; i++) for (let j = 0; j < text.length; j++) if (text.charCodeAt(j) === i) count++
      return count
    }
    assert.isFalse(isLinear(quadratic, [":".repeat(3_000)], [":".repeat(12_000)]))
  })

  it("and none of the hostile texts is taken for a job id", () => {
    for (const text of short) assert.isTrue(Exit.isFailure(Effect.runSyncExit(Job.id(text))))
  })
})
