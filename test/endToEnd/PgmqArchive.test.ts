/** What pgmq's archive keeps, by how jobs ended: settings, worker, broker and SQL together. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import { Job, Polyqueue, TerminalError, Worker } from "../../src/index.ts"
import { countOf, until } from "../support/PgmqBroker.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

class Good extends Job.make("Good") {}
class Bad extends Job.make("Bad") {}

const Handlers = Layer.merge(
  Good.toLayer(() => Effect.void),
  Bad.toLayer(() => Effect.fail(new TerminalError({ message: "no" })))
)

/** Runs jobs until so many were run by their message, and answers which types the archive holds. */
const archived = (options: PgmqBroker.Options) => {
  const App = Worker.layer([Good, Bad]).pipe(
    Layer.provide(Handlers),
    Layer.provideMerge(Polyqueue.layerPostgres),
    Layer.provideMerge(PgmqBroker.layer(options)),
    Layer.provideMerge(Layer.effectDiscard(installPgmq)),
    Layer.provideMerge(layerFresh())
  )
  return Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const inArchive = sql<{ type: string }>`
      select distinct j.type from pgmq.a_polyqueue a
      join polyqueue.polyqueue_jobs j on j.id = (a.message->>'j')::uuid order by 1`
    // One at a time: an idle worker waits for messages. Now and then it finds one by looking, which leaves nothing
    for (let n = 0; n < 10; n++) {
      const [good, bad] = [yield* Good.enqueue(), yield* Bad.enqueue()]
      yield* Effect.all([good.await, Effect.flip(bad.await)])
    }
    // What is not archived is deleted
    assert.strictEqual(yield* until(countOf(sql, "pgmq.q_polyqueue"), (n) => n === 0), 0)
    return (yield* inArchive).map(({ type }) => type)
  }).pipe(Effect.provide(App))
}

describePostgres("pgmq's archive keeps", () => {
  it.live("what succeeded, with archiveOnSuccess", () =>
    Effect.map(archived({ archiveOnSuccess: true }), (types) => assert.deepStrictEqual(types, ["Good"]))
  )
  it.live("what failed for good, with archiveOnTerminalFail", () =>
    Effect.map(archived({ archiveOnTerminalFail: true }), (types) => assert.deepStrictEqual(types, ["Bad"]))
  )
  it.live("nothing by default", () => Effect.map(archived({}), (types) => assert.deepStrictEqual(types, [])))
})
