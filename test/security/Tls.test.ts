/**
 * What goes to another machine can be neither read nor answered by somebody else: a TLS that was asked for is verified, for
 * every session we open, and never given up for plain text; what does not ask for it is warned of, or refused.
 */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Redacted, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import { execFileSync } from "node:child_process"
import { chownSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import { Broker, Job, Polyqueue, Worker } from "../../src/index.ts"
import { overhear } from "../support/Overheard.ts"
import { describePostgres, layerUrl, ownServer, postgresUrl } from "../support/Postgres.ts"
import { serverUser } from "../support/PostgresServer.ts"
import { describeOwnRedis, ownRedis } from "../support/Redis.ts"

class Ping extends Job.make("Ping", {}) {}

/** A certificate of its own authority for `localhost`, where the server may read it. */
const certificate = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = mkdtempSync(join(tmpdir(), "polyqueue-tls-"))
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")]
    const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    execFileSync("openssl", [...args, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert], {
      stdio: "ignore"
    })
    const user = serverUser()
    if (user !== undefined) for (const file of [folder, key, cert]) chownSync(file, user.uid, user.gid)
    return { folder, key, cert, ca: readFileSync(cert, "utf8") }
  }),
  ({ folder }) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

/** A Postgres that speaks TLS, by its right name and by another. */
const secureServer = Effect.gen(function* () {
  const { ca, cert, key } = yield* certificate
  const { port } = yield* ownServer({ settings: { ssl: "on", ssl_cert_file: cert, ssl_key_file: key } })
  const url = (host: string, mode: string) => `postgres://polyqueue@${host}:${port}/postgres?sslmode=${mode}`
  return { ca, url }
})

/** Who is connected: the kinds of sessions, each with whether it is encrypted. */
const sessions = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.unsafe<{ name: string; encrypted: boolean }>(
    `select distinct application_name as name, ssl as encrypted from pg_stat_activity join pg_stat_ssl using (pid)
    where backend_type = 'client backend' order by 1`
  )
})

const connect = (layer: ReturnType<typeof layerUrl>) =>
  Effect.result(
    Effect.scoped(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe("select 1")).pipe(Effect.provide(layer)))
  )

const words = (failure: unknown): string => {
  const texts: Array<string> = []
  let one: unknown = failure
  while (typeof one === "object" && one !== null) {
    texts.push(String(Reflect.get(one, "code")), String(Reflect.get(one, "message")))
    one = Reflect.get(one, "reason") ?? Reflect.get(one, "cause")
  }
  return texts.join(" ")
}

describePostgres("TLS to Postgres", () => {
  it.live("encrypts every session of a worker, our own and the bell's included", () =>
    Effect.gen(function* () {
      const { ca, url } = yield* secureServer
      const Live = Worker.layer([Ping]).pipe(
        Layer.provide(Ping.toLayer(() => Effect.void)),
        Layer.provideMerge(Polyqueue.layerPostgres),
        Layer.provideMerge(Broker.layerPostgres),
        Layer.provideMerge(layerUrl(url("localhost", "verify-full"), { ssl: { ca }, applicationName: "application" }))
      )
      yield* Effect.gen(function* () {
        yield* Ping.execute()
        const found = yield* sessions
        assert.includeMembers(
          found.map(({ name }) => name),
          ["application", "polyqueue"]
        )
        assert.isAtLeast(found.length, 3)
        for (const { encrypted, name } of found) assert.isTrue(encrypted, name)
      }).pipe(Effect.provide(Live))
    }).pipe(Effect.scoped)
  )

  it.live("refuses a certificate of an authority nobody knows, and one of another host", () =>
    Effect.gen(function* () {
      const { ca, url } = yield* secureServer
      for (const mode of ["require", "verify-ca", "verify-full"]) {
        const stranger = yield* connect(layerUrl(url("localhost", mode)))
        assert.strictEqual(stranger._tag, "Failure", mode)
        if (stranger._tag === "Failure") assert.match(words(stranger.failure), /self-signed|SELF_SIGNED/)
      }
      const impostor = yield* connect(layerUrl(url("127.0.0.1", "verify-full"), { ssl: { ca } }))
      assert.strictEqual(impostor._tag, "Failure")
      if (impostor._tag === "Failure") assert.match(words(impostor.failure), /ALTNAME|altnames/)
      assert.strictEqual((yield* connect(layerUrl(url("localhost", "verify-full"), { ssl: { ca } })))._tag, "Success")
    }).pipe(Effect.scoped)
  )

  it.live("is not given up when the server says it has none", () =>
    Effect.gen(function* () {
      for (const parameter of ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full", "ssl=true"]) {
        const env = { POLYQUEUE_DB_URL: `${postgresUrl}?${parameter}` }
        const error = yield* Effect.flip(Effect.scoped(Layer.build(PolyqueueConfig.layer))).pipe(
          Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
        )
        assert.strictEqual(error._tag, "StoreError", parameter)
        assert.include(error.message, "The server does not support TLS")
      }
    })
  )
})

describeOwnRedis("TLS to Redis", () => {
  it.live("refuses a certificate of another host, and is not given up for plain text", () =>
    Effect.gen(function* () {
      const { ca, port } = yield* ownRedis({ tls: true })
      const make = (url: string) =>
        RedisBroker.make({ url: Redacted.make(url), tls: { ca: ca! }, commandTimeout: "1 second" })
      assert.isTrue((yield* (yield* make(`rediss://localhost:${port}`)).health).ok)
      const impostor = yield* Effect.flip(make(`rediss://127.0.0.1:${port}`))
      assert.strictEqual(impostor.reason, "Misconfigured")
      assert.match(impostor.message, /altnames|ALTNAME/i)
      const plain = yield* ownRedis()
      const driver = yield* Effect.result(make(`rediss://localhost:${plain.port}`))
      if (driver._tag === "Success") assert.isFalse((yield* driver.success.health).ok)
      else assert.strictEqual(driver.failure.reason, "Misconfigured")
    }).pipe(Effect.scoped)
  )
})

/** The first bytes that whoever connects to a port of ours sends. */
const firstBytes = (use: (port: number) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  Effect.callback<Buffer>((resume) => {
    const server = createServer((socket) => {
      socket.on("error", () => {})
      socket.once("data", (bytes) => resume(Effect.succeed(bytes)))
    })
    const fiber = Effect.runFork(
      Effect.flatMap(
        Effect.callback<number>((listening) => {
          server.listen(0, "127.0.0.1", () => {
            const address = server.address()
            if (typeof address === "object" && address !== null) listening(Effect.succeed(address.port))
          })
        }),
        (port) => Effect.exit(Effect.scoped(use(port)))
      )
    )
    return Effect.sync(() => {
      fiber.interruptUnsafe()
      server.close()
    })
  })

describe("TLS to Service Bus", () => {
  it.live("is spoken from the first byte", () =>
    Effect.gen(function* () {
      const bytes = yield* firstBytes((port) =>
        Effect.gen(function* () {
          const connectionString = Redacted.make(
            `Endpoint=sb://127.0.0.1:${port};SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0`
          )
          const driver = yield* ServiceBusBroker.make({ connectionString, queue: "jobs", requestTimeout: "5 seconds" })
          yield* driver.publish([{ jobId: "id", queue: "default", priority: 5, attempt: 0, publication: 1 }])
        })
      )
      // A handshake record of TLS
      assert.strictEqual(bytes[0], 0x16)
      assert.strictEqual(bytes[1], 0x03)
    })
  )
})

describe("settings that do not insist on TLS", () => {
  const sb = "SharedAccessKeyName=n;SharedAccessKey=c4n4ry"
  type Env = Readonly<Record<string, string>>
  const redis = { POLYQUEUE_BACKEND: "redis", POLYQUEUE_DB_URL: "postgres:///db?host=/run/postgresql" }
  const sqs = { POLYQUEUE_BACKEND: "sqs", POLYQUEUE_DB_URL: "postgres://localhost/db" }
  const bus = { POLYQUEUE_BACKEND: "azure_service_bus", POLYQUEUE_DB_URL: "postgres://[::1]/db" }
  const remote: ReadonlyArray<readonly [string, Env]> = [
    ["POLYQUEUE_DB_URL", { POLYQUEUE_DB_URL: "postgres://u:c4n4ry@db.example/db" }],
    ["POLYQUEUE_DB_URL", { POLYQUEUE_DB_URL: "postgres://u:c4n4ry@db.example/db?sslmode=prefer" }],
    ["POLYQUEUE_DB_URL", { POLYQUEUE_DB_URL: "postgres://u:c4n4ry@localhost/db?host=10.0.0.7&sslmode=disable" }],
    ["POLYQUEUE_DB_URL", { POLYQUEUE_DB_URL: "postgres://u:c4n4ry@localhost.evil.example/db" }],
    ["POLYQUEUE_DB_URL", { POLYQUEUE_DB_URL: "postgres://u:c4n4ry@127.0.0.1.evil.example/db" }],
    ["POLYQUEUE_REDIS_URL", { ...redis, POLYQUEUE_REDIS_URL: "redis://:c4n4ry@cache.example" }],
    ["POLYQUEUE_SQS_QUEUE_URL", { ...sqs, POLYQUEUE_SQS_QUEUE_URL: "http://sqs.eu-west-1.amazonaws.com/1/jobs" }],
    [
      "POLYQUEUE_AZURE_SB_CONNECTION_STRING",
      { ...bus, POLYQUEUE_AZURE_SB_CONNECTION_STRING: `Endpoint=sb://bus.example;${sb};UseDevelopmentEmulator=true` }
    ]
  ]
  const sound: ReadonlyArray<Env> = [
    { POLYQUEUE_DB_URL: "postgres://u:c4n4ry@db.example/db?sslmode=verify-full" },
    { POLYQUEUE_DB_URL: "postgresql+asyncpg://u:c4n4ry@db.example/db?ssl=require" },
    { POLYQUEUE_DB_URL: "postgres://127.0.0.1/db", POLYQUEUE_REDIS_URL: "redis://unused.example" },
    { ...redis, POLYQUEUE_REDIS_URL: "rediss://:c4n4ry@cache.example" },
    { ...redis, POLYQUEUE_REDIS_URL: "redis://127.0.0.1" },
    { ...sqs, POLYQUEUE_SQS_QUEUE_URL: "https://sqs.eu-west-1.amazonaws.com/1/jobs" },
    { ...bus, POLYQUEUE_AZURE_SB_CONNECTION_STRING: `Endpoint=sb://bus.example;${sb}` },
    { ...bus, POLYQUEUE_AZURE_SB_CONNECTION_STRING: `Endpoint=sb://localhost;${sb};UseDevelopmentEmulator=true` }
  ]
  const inEnv = <A, E>(effect: Effect.Effect<A, E>, env: Env) =>
    Effect.provideService(effect, ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))

  it.effect.each(remote)("are warned of, and refused under POLYQUEUE_REQUIRE_TLS: %s %j", ([name, env]) =>
    Effect.gen(function* () {
      const [problem, ...more] = yield* inEnv(PolyqueueConfig.plainText(), env)
      assert.deepStrictEqual(more, [])
      assert.isTrue(problem?.startsWith(`${name} names another machine and does not insist on TLS`), problem)
      const refused = yield* Effect.flip(inEnv(PolyqueueConfig.environment, { ...env, POLYQUEUE_REQUIRE_TLS: "true" }))
      assert.include(refused.message, `${name} does not insist on TLS, which it must under POLYQUEUE_REQUIRE_TLS`)
      assert.notInclude(`${problem} ${refused.message}`, "c4n4ry")
    })
  )

  it.effect.each(sound)("are not: %j", (env) =>
    Effect.gen(function* () {
      const required = { ...env, POLYQUEUE_REQUIRE_TLS: "true" }
      assert.deepStrictEqual(yield* inEnv(PolyqueueConfig.plainText(), required), [])
    })
  )

  it.live("are in the log of the start", () =>
    Effect.gen(function* () {
      const env = {
        POLYQUEUE_DB_URL: "postgres://u:c4n4ry@db.example/db?host=localhost",
        POLYQUEUE_BACKEND: "redis",
        POLYQUEUE_REDIS_URL: "redis://:c4n4ry@cache.invalid"
      }
      const { messages, text } = yield* overhear(
        inEnv(Effect.scoped(Layer.build(PolyqueueConfig.layer)), {
          ...env,
          POLYQUEUE_DB_URL: "postgres://127.0.0.1:1/db"
        })
      )
      assert.isTrue(messages.some((message) => message.startsWith("POLYQUEUE_REDIS_URL names another machine")))
      assert.notInclude(text, "c4n4ry")
    })
  )
})
