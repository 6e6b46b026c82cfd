import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer, Redacted } from "effect"
import { inspect } from "node:util"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import { load } from "../../src/broker/redis/Connection.ts"
import { toBrokerError } from "../../src/broker/redis/Errors.ts"
import * as Health from "../../src/broker/redis/Health.ts"
import * as Message from "../../src/broker/redis/Message.ts"
import * as Settings from "../../src/broker/redis/Settings.ts"
import type { BrokerReason } from "../../src/JobError.ts"

const coded = (code: string, message = `something: ${code}`) => Object.assign(new Error(message), { code })

const table: ReadonlyArray<readonly [BrokerReason, Error]> = [
  ["Unauthorized", new Error("NOAUTH Authentication required.")],
  ["Unauthorized", new Error("WRONGPASS invalid username-password pair or user is disabled.")],
  ["Unauthorized", new Error("NOPERM User worker has no permissions to run the 'evalsha' command")],
  ["Unauthorized", new Error("ERR Client sent AUTH, but no password is set")],
  ["QuotaExceeded", new Error("OOM command not allowed when used memory > 'maxmemory'.")],
  ["Throttled", new Error("BUSY Redis is busy running a script.")],
  ["Throttled", new Error("LOADING Redis is loading the dataset in memory")],
  ["Throttled", new Error("TRYAGAIN Multiple keys request during rehashing of slot")],
  ["Throttled", new Error("ERR max number of clients reached")],
  ["Unavailable", new Error("READONLY You can't write against a read only replica.")],
  ["Unavailable", new Error("MASTERDOWN Link with MASTER is down")],
  ["Unavailable", new Error("CLUSTERDOWN The cluster is down")],
  ["Unavailable", new Error("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.")],
  ["Unavailable", new Error("UNBLOCKED force unblock from blocking operation, instance state changed")],
  ["Unavailable", new Error("Stream isn't writeable and enableOfflineQueue options is false")],
  ["Unavailable", new Error("Connection is closed.")],
  ["Unavailable", new Error("Cluster isn't ready and enableOfflineQueue options is false")],
  ["Unavailable", new Error("Failed to refresh slots cache.")],
  ["Unavailable", new Error("None of startup nodes is available")],
  ["Unavailable", coded("ECONNREFUSED")],
  ["Unavailable", coded("ECONNRESET")],
  ["Unavailable", coded("ENOTFOUND")],
  ["Unavailable", coded("EAI_AGAIN")],
  ["Unavailable", coded("ETIMEDOUT")],
  ["OutcomeUnknown", new Error("Command timed out")],
  ["OutcomeUnknown", new Error("Socket timeout. Expecting data, but didn't receive any in 10000ms.")],
  ["OutcomeUnknown", new Error("Reached the max retries per request limit (which is 0).")],
  ["Misconfigured", new Error("MOVED 3999 127.0.0.1:6381")],
  ["Misconfigured", new Error("CROSSSLOT Keys in request don't hash to the same slot")],
  ["Misconfigured", new Error("WRONGTYPE Operation against a key holding the wrong kind of value")],
  ["Misconfigured", new Error("NOPROTO unsupported protocol version")],
  ["Misconfigured", new Error("ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'")],
  ["Misconfigured", new Error("ERR unknown command 'evalsha'")],
  ["Misconfigured", new Error("ERR DB index is out of range")],
  ["Misconfigured", coded("DEPTH_ZERO_SELF_SIGNED_CERT", "self-signed certificate")],
  ["Misconfigured", coded("ERR_TLS_CERT_ALTNAME_INVALID", "Hostname/IP does not match certificate's altnames")],
  ["Unexpected", new Error("ERR value is not an integer or out of range")]
]

describe("errors of Redis", () => {
  for (const [reason, cause] of table) {
    it(`${reason}: ${inspect(cause.message)}`, () => {
      const error = toBrokerError("publish", cause)
      assert.deepStrictEqual([error.reason, error.operation], [reason, "publish"])
    })
  }

  it("a command that was not sent is explained by why there is no connection", () => {
    const reasonFor = (last: string) => toBrokerError("publish", new Error("Stream isn't writeable"), new Error(last))
    assert.strictEqual(reasonFor("WRONGPASS invalid").reason, "Unauthorized")
    assert.strictEqual(reasonFor("connect ECONNREFUSED").reason, "Unavailable")
    assert.strictEqual(reasonFor("Socket timeout. Expecting data").reason, "Unavailable", "the outcome is known")
    const sent = toBrokerError("publish", new Error("Command timed out"), new Error("connect ECONNREFUSED"))
    assert.strictEqual(sent.reason, "OutcomeUnknown")
  })

  it("no arguments of commands in an error: they hold passwords", () => {
    const refused = Object.assign(new Error("WRONGPASS invalid"), { command: { name: "auth", args: ["s3cret"] } })
    const repeated = new Error("ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `u`, `s3cret`, ")
    for (const cause of [refused, repeated]) {
      const error = toBrokerError("connect", cause, cause)
      assert.notInclude(inspect(error, { depth: 10 }) + JSON.stringify(error), "s3cret")
    }
  })

  it.effect("a missing ioredis is Misconfigured, and named", () =>
    Effect.gen(function* () {
      const missing = coded("ERR_MODULE_NOT_FOUND", "Cannot find package 'ioredis'")
      const error = yield* Effect.flip(load(() => Promise.reject(missing)))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "npm install ioredis")
    })
  )
})

describe("settings of Redis", () => {
  const parse = (url: string, more: Partial<RedisBroker.Options> = {}) =>
    Settings.parse({ url: Redacted.make(url), ...more })

  it.effect("a URL is taken apart, and options win", () =>
    Effect.gen(function* () {
      const plain = yield* parse("redis://localhost")
      assert.deepInclude(plain, { host: "localhost", port: 6379, db: 0, prefix: "polyqueue", commandTimeout: 5_000 })
      assert.deepInclude(plain, { username: undefined, password: undefined, tls: undefined })
      const full = yield* parse("rediss://me:p%40ss@[::1]:7000/3")
      assert.deepInclude(full, { host: "::1", port: 7000, db: 3, username: "me", tls: {} })
      assert.strictEqual(Redacted.value(full.password!), "p@ss")
      const other = yield* parse("redis://me:one@host", { password: Redacted.make("t%wo"), username: "you" })
      assert.deepStrictEqual([other.username, Redacted.value(other.password!)], ["you", "t%wo"])
    })
  )

  const refused: ReadonlyArray<readonly [string, string, Partial<RedisBroker.Options>]> = [
    ["url", "localhost:6379", {}],
    ["url", "http://:s3cret@localhost", {}],
    ["url", "redis://:s3cret@local host", {}],
    ["url", "redis://:s3cret%@localhost", {}],
    ["path", "redis://:s3cret@localhost/zero", {}],
    ["tls", "redis://:s3cret@localhost", { tls: {} }],
    ["enableOfflineQueue", "redis://:s3cret@localhost?enableOfflineQueue=true", {}],
    ["database 0", "redis://:s3cret@localhost/1", { cluster: true }],
    ["prefix", "redis://:s3cret@localhost", { prefix: "a}b" }],
    ["prefix", "redis://:s3cret@localhost", { prefix: "" }],
    ["commandTimeout", "redis://:s3cret@localhost", { commandTimeout: 0 }]
  ]
  for (const [named, url, options] of refused) {
    it.effect(`refuses ${url} with ${inspect(options)}, naming ${named} and no secret`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(parse(url, options))
        assert.strictEqual(error.reason, "Misconfigured")
        assert.include(error.message, named)
        assert.notInclude(inspect(error, { depth: 10 }), "s3cret")
      })
    )
  }

  it.effect("layerConfig reads the environment, and fails with a ConfigError where a variable is missing", () =>
    Effect.gen(function* () {
      const layer = RedisBroker.layerConfig({
        url: Config.Redacted("REDIS_URL"),
        prefix: Config.String("REDIS_PREFIX").pipe(Config.withDefault("mine"))
      })
      const build = (env: Record<string, string>) =>
        Layer.build(layer).pipe(
          Effect.scoped,
          Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))),
          Effect.flip
        )
      assert.strictEqual((yield* build({}))._tag, "ConfigError")
      assert.strictEqual((yield* build({ REDIS_URL: "nonsense" }))._tag, "BrokerError")
    })
  )
})

describe("health of Redis", () => {
  const good =
    "redis_version:7.0.15\r\nrole:master\r\nmaxmemory:1000\r\nused_memory:10\r\nmaxmemory_policy:noeviction\r\n"
  const bad: ReadonlyArray<readonly [string, string, RegExp]> = [
    ["maxmemory_policy:noeviction", "maxmemory_policy:allkeys-lru", /allkeys-lru.*noeviction/],
    ["redis_version:7.0.15", "redis_version:6.2.1", /6\.2\.1 is too old/],
    ["role:master", "role:slave", /replica/],
    ["used_memory:10", "used_memory:950", /95% of its maxmemory/],
    ["role:master", "role:master\r\nloading:1", /loading/]
  ]

  it("a good server has no problems; keys without a time to live survive volatile policies", () => {
    assert.deepStrictEqual(Health.problemsOf(good), [])
    assert.deepStrictEqual(Health.problemsOf(good.replace("noeviction", "volatile-lru")), [])
  })
  for (const [from, to, problem] of bad) {
    it(`sees ${inspect(to)}`, () => {
      const problems = Health.problemsOf(good.replace(from, to))
      assert.strictEqual(problems.length, 1)
      assert.match(problems[0]!, problem)
    })
  }
})

describe("messages", () => {
  const jobId = "0198c2a4-6f1b-7e6b-8d2f-3f6f5a0c9b1e"

  it("a hint survives encoding, and what is no hint of ours is none", () => {
    const hint = { jobId, queue: "q", attempt: 12, publication: 3, priority: 0 }
    assert.deepStrictEqual(Message.decode("q", jobId, Message.encode(hint)), hint)
    for (const foreign of ["", "2:1:1:1", "1:1:1", "1:1:-1:5", "1:1:1:10", "1:3000000000:1:5", "1:1:1:5 ", "{}"]) {
      assert.isUndefined(Message.decode("q", jobId, foreign), foreign)
    }
    for (const forged of ["", "a", `${jobId}0`, "'; drop table jobs; --"]) {
      assert.isUndefined(Message.decode("q", forged, Message.encode(hint)), forged)
    }
    for (const wrong of [{ priority: 10 }, { priority: 0.5 }, { attempt: -1 }, { jobId: "a" }]) {
      assert.isFalse(Message.isHint({ ...hint, ...wrong }), inspect(wrong))
    }
  })
})
