// 04 Transactional enqueue: inside sql.withTransaction an enqueue is part of the transaction. Committed: the user and the
// job are there. Rolled back: neither is. On Postgres inside this process, so there is nothing to install.
//
// Prints:
//   sign-up of ada: welcomed
//   sign-up of eve: failed, and left 1 user and 1 job
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Data, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Job, Polyqueue, Worker } from "../src/index.ts"

class Welcome extends Job.make("Welcome", { payload: { name: Schema.String }, success: Schema.String }) {}
const WelcomeLive = Welcome.toLayer(() => Effect.succeed("welcomed"))

class NameTaken extends Data.TaggedError("NameTaken") {}

// The ordinary transaction and the ordinary enqueue: there is no second API for it
const signUp = Effect.fn("signUp")(function* (name: string) {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`insert into users ${sql.insert({ name })}`
      const job = yield* Welcome.enqueue({ name })
      if (name === "eve") return yield* new NameTaken()
      return job
    })
  )
})

const Live = Worker.layer([Welcome]).pipe(Layer.provide(WelcomeLive), Layer.provideMerge(Polyqueue.layerEmbedded()))

Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`create table users (name text primary key)`
  const job = yield* signUp("ada")
  yield* Console.log(`sign-up of ada: ${yield* job.await}`)

  yield* Effect.flip(signUp("eve"))
  const users = yield* sql`select from users`
  const jobs = yield* Polyqueue.use((queue) => queue.list({ type: "Welcome", limit: 10 }))
  yield* Console.log(`sign-up of eve: failed, and left ${users.length} user and ${jobs.length} job`)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
