import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Config, Context, DateTime, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import {
  Broker,
  CurrentJob,
  Job,
  JobStore,
  Metrics,
  Polyqueue,
  TerminalError,
  Worker,
  WorkerRegistry
} from "../../src/index.ts"
import { PolyqueueTest } from "../../src/testing/PolyqueueTest.ts"

// --- jobs.ts: the contract, importable anywhere -----------------------------
export class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", { to: Schema.String }) {}
export class BadAddress extends Schema.TaggedError<BadAddress>()("BadAddress", { to: Schema.String }) {}

export class SendEmail extends Job.make("SendEmail", {
  payload: { to: Schema.String, subject: Schema.String },
  success: Schema.Struct({ messageId: Schema.String }),
  error: Schema.Union([MailboxFull, BadAddress]),
  queue: "mail",
  retry: {
    schedule: Schedule.exponential("10 seconds").pipe(Schedule.jittered, Schedule.upTo({ times: 5 })),
    while: (error) => error._tag !== "BadAddress"
  },
  timeout: { after: "30 seconds", then: "retry" },
  idempotencyKey: ({ to, subject }) => `${to}/${subject}`
}) {}
export class Digest extends Job.make("Digest", { payload: { day: Schema.DateTimeUtcFromString } }) {}

// --- handlers.ts ------------------------------------------------------------
export class Smtp extends Context.Service<
  Smtp,
  {
    send(m: { readonly to: string; readonly subject: string }): Effect.Effect<string, MailboxFull | BadAddress>
  }
>()("app/Smtp") {
  declare static readonly layer: Layer.Layer<Smtp>
}
export const SendEmailLive = SendEmail.toLayer(
  Effect.gen(function* () {
    const smtp = yield* Smtp // built once
    return Effect.fnUntraced(function* (email) {
      const job = yield* CurrentJob
      yield* job.progress(50)
      if (!email.to.includes("@")) return yield* Effect.fail(new TerminalError({ message: "no such address" }))
      return { messageId: yield* smtp.send(email) }
    })
  })
)
export const DigestLive = Digest.toLayer(
  Effect.fnUntraced(function* ({ day }) {
    yield* Effect.logInfo(DateTime.formatIso(day))
  })
)

// --- enqueue: the transaction is the ordinary one ----------------------------
export const signUp = Effect.fn("signUp")(function* (email: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`insert into users ${sql.insert({ email })}`
      return yield* SendEmail.enqueue({ to: email, subject: "Welcome" }, { delay: "5 minutes", priority: 1 })
    })
  )
})
export const many = SendEmail.enqueueAll([
  { to: "a", subject: "b" },
  { to: "c", subject: "d" }
])
export const waitForIt = Effect.gen(function* () {
  const job = yield* SendEmail.enqueue({ to: "ada@example.com", subject: "Hi" })
  const { messageId } = yield* job.await
  return messageId
}).pipe(Effect.catchTag("BadAddress", (e) => Effect.succeed(e.to)))
export const call = SendEmail.execute({ to: "ada@example.com", subject: "Hi" }) // enqueue and await

// --- main.ts ------------------------------------------------------------------
export const Jobs = Worker.layer([SendEmail, Digest], { concurrency: { mail: 5, default: 20 } }).pipe(
  Layer.provide([SendEmailLive, DigestLive]),
  Layer.provide(Smtp.layer)
)
export const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })
export const App = Jobs.pipe(
  Layer.provide(Polyqueue.layerPostgres),
  Layer.provide(Broker.layerPostgres), // the only line that names the broker
  Layer.provide(Database)
)
// the same, every port named at the edge
export const Explicit = Jobs.pipe(
  Layer.provide(Polyqueue.layer),
  Layer.provide([JobStore.layerPostgres, WorkerRegistry.layerPostgres, Metrics.layerEffect, Broker.layerPostgres]),
  Layer.provide(Database)
)
export const Embedded = Jobs.pipe(Layer.provide(Polyqueue.layerEmbedded()))
Layer.launch(App).pipe(NodeRuntime.runMain)

// --- what must not compile ----------------------------------------------------
const Broken = Worker.layer([SendEmail, Digest]).pipe(
  Layer.provide(SendEmailLive),
  Layer.provide(Smtp.layer),
  Layer.provide(Polyqueue.layerMemory)
)
// @ts-expect-error Job.Handler<"Digest"> is still required
Layer.launch(Broken).pipe(NodeRuntime.runMain)
const NoBroker = Jobs.pipe(Layer.provide(Polyqueue.layerProducer), Layer.provide(Database))
// @ts-expect-error a worker cannot stand on layerProducer
Layer.launch(NoBroker).pipe(NodeRuntime.runMain)
// @ts-expect-error wrong payload
SendEmail.enqueue({ to: 1, subject: "x" })
// @ts-expect-error one id cannot be given to many jobs
SendEmail.enqueueAll([{ to: "a", subject: "b" }], { idempotencyKey: "k" })
// @ts-expect-error messageId missing
SendEmail.toLayer((_email) => Effect.succeed({ id: "x" }))

// --- test: no Postgres, no broker, virtual time -------------------------------
const TestLive = Worker.layer([SendEmail]).pipe(
  Layer.provide(SendEmailLive),
  Layer.provide(Smtp.layer),
  Layer.provideMerge(PolyqueueTest.layer)
)
layer(TestLive)("sign-up mail", (it) => {
  it.effect("is sent five minutes later", () =>
    Effect.gen(function* () {
      yield* SendEmail.enqueue({ to: "ada@example.com", subject: "Welcome" }, { delay: "5 minutes" })
      const [job] = yield* PolyqueueTest.enqueued(SendEmail)
      assert.strictEqual(job?.payload.to, "ada@example.com")
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(yield* PolyqueueTest.drain, { succeeded: 1, failed: 0 })
    })
  )
})
