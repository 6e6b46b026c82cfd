/** Every variable is read, every wrong value is refused by name, all at once, and no secret is ever shown. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Redacted } from "effect"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"

type Env = Readonly<Record<string, string>>
type Key = keyof PolyqueueConfig.Settings

const url = "postgresql://user:pass@db.example:5432/app?sslmode=verify-full"
const enough: Env = { POLYQUEUE_DB_URL: url }

const inEnv = <A, E>(effect: Effect.Effect<A, E>, env: Env) =>
  Effect.provideService(effect, ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
const read = (env: Env) => inEnv(PolyqueueConfig.settings, { ...enough, ...env })
const refusal = (env: Env) => Effect.map(Effect.flip(inEnv(PolyqueueConfig.settings, env)), (error) => error.message)

/** What each variable becomes, and texts it must refuse. */
const table: {
  readonly [K in Key]: readonly [text: string, value: unknown, wrong: ReadonlyArray<string>]
} = {
  dbUrl: [
    "postgresql+asyncpg://u:p%40ss@h/db?ssl=require",
    "postgresql://u:p%40ss@h/db?sslmode=require",
    [
      "mysql://h/db",
      "h/db",
      "postgres://",
      "postgres://u:pa/ss@h/db",
      "postgres://h/db?ssl=perhaps",
      "postgres://u:%zz@h/"
    ]
  ],
  backend: ["PGMQ", "pgmq", ["kafka", "memory"]],
  tablePrefix: ["app", "app", ["App", "a-b", "1a", `x"; drop table y`, "x".repeat(42)]],
  tableSchema: ["jobs_2", "jobs_2", ["Jobs", "a b"]],
  redisUrl: ["rediss://u:p@h:6380/2", "rediss://u:p@h:6380/2", ["h:6379", "http://h", "redis://h/name"]],
  sqsQueueUrl: [
    "https://sqs.eu-west-1.amazonaws.com/1/jobs",
    "https://sqs.eu-west-1.amazonaws.com/1/jobs",
    ["jobs", "https://user:pw@sqs.eu-west-1.amazonaws.com/1/jobs", "https://h", "https://h/q?X-Amz-Signature=1"]
  ],
  sqsRegion: ["eu-north-1", "eu-north-1", ["Europe", "eu north"]],
  sqsVisibilityTimeout: ["90", 90, ["0", "43201", "soon"]],
  pgmqQueueName: ["mail", "mail", ["Mail", "a__b"]],
  pgmqVisibilityTimeout: ["2 minutes", 120, ["0", "-1"]],
  pgmqPollSeconds: ["2.5", 2.5, ["0", "5s"]],
  pgmqPollIntervalMs: ["250", 250, ["0", "fast"]],
  pgmqCreateQueueIfMissing: ["no", false, ["maybe", "2"]],
  pgmqUseUnloggedQueue: ["TRUE", true, ["maybe"]],
  pgmqArchiveOnSuccess: ["1", true, ["maybe"]],
  pgmqArchiveOnTerminalFail: ["on", true, ["maybe"]],
  azureSbConnectionString: [
    "Endpoint=sb://ns.example;SharedAccessKeyName=n;SharedAccessKey=k",
    "Endpoint=sb://ns.example;SharedAccessKeyName=n;SharedAccessKey=k",
    ["sb://ns.example", "Endpoint=sb://ns.example"]
  ],
  azureSbQueueName: ["jobs/mail", "jobs/mail", ["/jobs", "a b"]],
  azureSbLockRenewal: ["1 hour", 3_600, ["0", "x"]],
  requireTls: ["yes", true, ["maybe"]],
  maxAttempts: ["5", 5, ["0", "2.5", "-1", "many"]],
  retryBackoffSeconds: ["10,60,300", [10, 60, 300], ["10;60", "10,,60", "a", "-1"]],
  leaseDuration: ["45 seconds", 45, ["0", "45s", "forever", "90000"]],
  heartbeatInterval: ["10", 10, ["0", "x", "30"]],
  reaperInterval: ["7", 7, ["0", "x"]],
  retryPollInterval: ["0.5", 0.5, ["0", "x"]],
  workerName: ["mailer 1", "mailer 1", ["a\u001b[31m", "postgres://u:p@h", "x".repeat(201)]],
  defaultMaxRunSeconds: ["120", 120, ["0", "x"]],
  timeoutStrategy: ["fail", "fail", ["stop"]],
  progressHeartbeatInterval: ["20", 20, ["0", "x"]],
  workerHeartbeatInterval: ["5", 5, ["0", "x", "60", "61"]],
  workerStaleThreshold: ["90", 90, ["0", "x", "15", "10"]],
  staleProgressThreshold: ["300", 300, ["0", "x"]]
}

const cases = Object.entries(table).map(([key, row]) => ({
  key: key as Key,
  row,
  name: PolyqueueConfig.variables[key as Key].name
}))

describe("every variable", () => {
  it.effect.each(cases)("$name is read", ({ key, name, row: [text, value] }) =>
    Effect.gen(function* () {
      const got = (yield* inEnv(PolyqueueConfig.environment, {
        ...enough,
        POLYQUEUE_BACKEND: "none",
        [name]: text
      })).settings[key]
      assert.deepStrictEqual(Redacted.isRedacted(got) ? Redacted.value(got) : got, value)
      const row = (yield* inEnv(PolyqueueConfig.explain(), {
        ...enough,
        POLYQUEUE_BACKEND: "none",
        [name]: text
      })).find((row) => row.key === key)
      assert.strictEqual(row?.source, "environment")
    })
  )

  it.effect.each(cases)(
    "$name refuses what is wrong, and says its name and what is allowed",
    ({ key, name, row: [, , wrong] }) =>
      Effect.gen(function* () {
        for (const text of wrong) {
          const message = yield* refusal({ ...enough, [name]: text })
          assert.include(message, name, text)
          assert.match(message, /must be/, text)
          if (PolyqueueConfig.variables[key].kind.isSecret) assert.notInclude(message, text)
        }
      })
  )

  it("is in the table, under the name of the original", () => {
    // Those of the original, and POLYQUEUE_REQUIRE_TLS
    assert.lengthOf(cases, 33)
    for (const { key, name } of cases) {
      assert.strictEqual(name, `POLYQUEUE_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`)
    }
  })

  it.effect("has the default of the original, or says where and why not", () =>
    Effect.gen(function* () {
      const { dbUrl: _, ...settings } = yield* read({})
      assert.deepStrictEqual(settings, {
        backend: "postgres",
        tablePrefix: "polyqueue",
        tableSchema: "polyqueue",
        redisUrl: undefined,
        sqsQueueUrl: undefined,
        sqsRegion: "us-east-1",
        sqsVisibilityTimeout: 660,
        pgmqQueueName: "polyqueue",
        pgmqVisibilityTimeout: 660,
        pgmqPollSeconds: 5,
        pgmqPollIntervalMs: 100,
        pgmqCreateQueueIfMissing: true,
        pgmqUseUnloggedQueue: false,
        pgmqArchiveOnSuccess: false,
        pgmqArchiveOnTerminalFail: false,
        azureSbConnectionString: undefined,
        azureSbQueueName: "polyqueue",
        azureSbLockRenewal: 3600,
        requireTls: false,
        maxAttempts: 3,
        retryBackoffSeconds: [10, 60, 300],
        leaseDuration: 30,
        heartbeatInterval: undefined,
        reaperInterval: 5,
        retryPollInterval: 1,
        workerName: undefined,
        defaultMaxRunSeconds: undefined,
        timeoutStrategy: "retry",
        progressHeartbeatInterval: 30,
        workerHeartbeatInterval: 15,
        workerStaleThreshold: 60,
        staleProgressThreshold: 120
      })
      for (const key of ["leaseDuration", "heartbeatInterval", "reaperInterval"] as const) {
        assert.match(PolyqueueConfig.variables[key].differs ?? "", /in the original/)
      }
    })
  )
})

describe("mistakes", () => {
  it.effect("are all reported at once", () =>
    Effect.gen(function* () {
      const message = yield* refusal({
        POLYQUEUE_BACKEND: "redis",
        POLYQUEUE_MAX_ATTEMPTS: "lots",
        POLYQUEUE_LEASE_DURATION: "0",
        POLYQUEUE_TIMEOUT_STRATEGY: "explode"
      })
      assert.include(message, "5 settings of polyqueue are wrong")
      for (const part of [
        "POLYQUEUE_DB_URL is missing",
        "POLYQUEUE_REDIS_URL is missing",
        'POLYQUEUE_MAX_ATTEMPTS is "lots": it must be a whole number from 1',
        'POLYQUEUE_LEASE_DURATION is "0": it must be a number of seconds from 0.1',
        'POLYQUEUE_TIMEOUT_STRATEGY is "explode": it must be one of retry, fail, ignore'
      ]) {
        assert.include(message, part)
      }
    })
  )

  it.effect("each backend says what it cannot do without", () =>
    Effect.gen(function* () {
      for (const [backend, name] of [
        ["redis", "POLYQUEUE_REDIS_URL"],
        ["sqs", "POLYQUEUE_SQS_QUEUE_URL"],
        ["azure_service_bus", "POLYQUEUE_AZURE_SB_CONNECTION_STRING"]
      ] as const) {
        assert.include(yield* refusal({ ...enough, POLYQUEUE_BACKEND: backend }), `${name} is missing`)
      }
      assert.include(yield* refusal({}), "POLYQUEUE_DB_URL is missing")
      assert.isUndefined((yield* inEnv(PolyqueueConfig.settings, { POLYQUEUE_BACKEND: "none" })).dbUrl)
    })
  )

  it.effect("a heartbeat that is not shorter than what it renews", () =>
    Effect.gen(function* () {
      const same = { POLYQUEUE_HEARTBEAT_INTERVAL: "120" }
      assert.include(yield* refusal({ ...enough, ...same }), "POLYQUEUE_LEASE_DURATION, which is 30")
      assert.strictEqual((yield* read({ ...same, POLYQUEUE_LEASE_DURATION: "600" })).heartbeatInterval, 120)
      const long = { ...same, POLYQUEUE_LEASE_DURATION: "600" }
      for (const [backend, variable, also] of [
        ["pgmq", "POLYQUEUE_PGMQ_VISIBILITY_TIMEOUT", {}],
        ["sqs", "POLYQUEUE_SQS_VISIBILITY_TIMEOUT", { POLYQUEUE_SQS_QUEUE_URL: "https://sqs.example/1/q" }]
      ] as const) {
        const env = { ...long, ...also, POLYQUEUE_BACKEND: backend }
        assert.include(yield* refusal({ ...enough, ...env, [variable]: "120" }), `${variable}, which is 120`)
        assert.strictEqual((yield* read({ ...env, [variable]: "121" })).heartbeatInterval, 120)
      }
    })
  )

  it.effect("a region that is not the queue's", () =>
    Effect.gen(function* () {
      const queue = { POLYQUEUE_SQS_QUEUE_URL: "https://sqs.eu-west-1.amazonaws.com/1/q" }
      assert.strictEqual((yield* read(queue)).sqsRegion, "eu-west-1")
      const message = yield* refusal({ ...enough, ...queue, POLYQUEUE_SQS_REGION: "us-east-1" })
      assert.include(message, 'POLYQUEUE_SQS_REGION is "us-east-1": it must be the region of POLYQUEUE_SQS_QUEUE_URL')
    })
  )

  it.effect("variables that nobody reads, with the one that was meant", () =>
    Effect.gen(function* () {
      const env = {
        ...enough,
        POLYQUEUE_LEASE_DURATIN: "SECRET",
        POLYQUEUE_FROBNICATE: "x",
        POLYQUEUE: "y",
        OTHER: "z"
      }
      assert.deepStrictEqual(yield* inEnv(PolyqueueConfig.unknownVariables, env), [
        "POLYQUEUE_FROBNICATE is not a setting of polyqueue",
        "POLYQUEUE_LEASE_DURATIN is not a setting of polyqueue: did you mean POLYQUEUE_LEASE_DURATION?"
      ])
      assert.deepStrictEqual(yield* inEnv(PolyqueueConfig.unknownVariables, enough), [])
    })
  )
})

describe("settings in code", () => {
  it.effect("have the same defaults and rules; numbers of times are seconds", () =>
    Effect.gen(function* () {
      const { settings, sources } = yield* PolyqueueConfig.fromObject({
        dbUrl: Redacted.make(url),
        leaseDuration: Duration.minutes(2),
        heartbeatInterval: "20 seconds",
        reaperInterval: 3,
        pgmqPollIntervalMs: 50,
        retryBackoffSeconds: [1, 2.5]
      })
      assert.deepStrictEqual(
        [settings.leaseDuration, settings.heartbeatInterval, settings.reaperInterval, settings.pgmqPollIntervalMs],
        [120, 20, 3, 50]
      )
      assert.deepStrictEqual(settings.retryBackoffSeconds, [1, 2.5])
      assert.deepStrictEqual([sources.leaseDuration, sources.maxAttempts], ["object", "default"])
      const error = yield* Effect.flip(PolyqueueConfig.fromObject({ backend: "redis", maxAttempts: 0 }))
      assert.include(error.message, 'maxAttempts (POLYQUEUE_MAX_ATTEMPTS) is "0"')
      assert.include(error.message, "redisUrl (POLYQUEUE_REDIS_URL) is missing")
    })
  )
})

describe("explain", () => {
  it.effect("shows every value with its source, and says what has no effect", () =>
    Effect.gen(function* () {
      const rows = yield* inEnv(PolyqueueConfig.explain(), {
        ...enough,
        POLYQUEUE_MAX_ATTEMPTS: "7",
        POLYQUEUE_PROGRESS_HEARTBEAT_INTERVAL: "30",
        POLYQUEUE_PGMQ_QUEUE_NAME: "mail"
      })
      const of = (key: Key) => rows.find((row) => row.key === key)!
      assert.deepStrictEqual([of("maxAttempts").value, of("maxAttempts").source], ["7", "environment"])
      assert.deepStrictEqual([of("dbUrl").value, of("dbUrl").source], ["(hidden)", "environment"])
      assert.deepStrictEqual(
        [of("retryBackoffSeconds").value, of("retryBackoffSeconds").source],
        ["10,60,300", "default"]
      )
      assert.deepStrictEqual([of("redisUrl").value, of("redisUrl").source], [undefined, "default"])
      assert.match(of("progressHeartbeatInterval").note ?? "", /^No effect: /)
      assert.strictEqual(of("pgmqQueueName").note, "Not used by backend postgres.")
      assert.match(of("leaseDuration").note ?? "", /^600 in the original/)
      for (const row of rows) assert.isNotEmpty(row.doc, row.variable)
    })
  )
})
