/**
 * Postgres inside this process: PGlite behind the same `PgClient` that talks to a server, so the Postgres store runs on it
 * unchanged and there is nothing to install. In memory, or in a folder that survives restarts and crashes of the process.
 *
 * It is one session: statements of all connections run one after the other, and a transaction holds the session while the
 * others wait. Right for development, tests and small installations of one process; wrong for several workers.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { join } from "node:path"
import { StoreError } from "../JobError.ts"
import * as FolderLock from "./pglite/FolderLock.ts"
import { type Session, Wire } from "./pglite/Wire.ts"

/** Where the embedded database lives. */
export interface Options {
  /**
   * A folder, made if it is not there, for this user alone to read. Only one process may have it; a second one fails with a `StoreError`. Default: in
   * memory, gone with the layer.
   */
  readonly dataDir?: string | undefined
}

/** How long a transaction may hold the only session before a warning. */
const LONG_TRANSACTION = "10 seconds"

/**
 * A `PgClient` on an embedded Postgres. Fails with `Unsupported` when `@electric-sql/pglite` is not installed, with
 * `Unavailable` when another process has the folder, with `Denied` when the folder cannot be written, and with
 * `Unexpected` when the database in it does not start.
 */
export const layer = (options: Options = {}): Layer.Layer<PgClient.PgClient | SqlClient, StoreError> =>
  PgClient.layerFrom(
    Effect.gen(function* () {
      const session = yield* open(options.dataDir)
      const wire = yield* Effect.acquireRelease(
        Effect.map(watchTransactions, (held) => new Wire(session, held)),
        (wire) => Effect.promise(() => wire.close())
      )
      return yield* PgClient.make({
        stream: () => wire.connect(),
        username: "postgres",
        database: "postgres",
        maxConnections: 10,
        // All connections are one session, so names of prepared statements would clash
        prepare: false
      }).pipe(Effect.catchTag("SqlError", (cause) => Effect.fail(doesNotStart(options.dataDir, cause))))
    })
  )

interface Database extends Session {
  readonly close: () => Promise<void>
}

const open = (dataDir: string | undefined): Effect.Effect<Session, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const { PGlite } = yield* Effect.tryPromise({ try: () => import("@electric-sql/pglite"), catch: notInstalled })
    if (dataDir !== undefined) yield* FolderLock.acquire(dataDir)
    const create: () => Promise<Database> = () =>
      dataDir === undefined ? PGlite.create() : PGlite.create(join(dataDir, "pgdata"))
    return yield* Effect.acquireRelease(
      Effect.tryPromise({ try: create, catch: (cause) => doesNotStart(dataDir, cause) }),
      (database) => Effect.promise(() => database.close())
    )
  })

/** Warns while a transaction holds the session for long: everything else in the process waits for it. */
const watchTransactions = Effect.map(Effect.context<never>(), (context) => () => {
  const fiber = Effect.runForkWith(context)(
    Effect.delay(
      Effect.logWarning(
        `a transaction has held the embedded database for ${LONG_TRANSACTION}: all other statements wait for it. ` +
          "Keep transactions short, and never wait inside one for work that needs another connection"
      ),
      LONG_TRANSACTION
    )
  )
  return () => fiber.interruptUnsafe()
})

const notInstalled = (cause: unknown) =>
  new StoreError({
    reason: "Unsupported",
    operation: "openEmbedded",
    message: "the embedded database needs @electric-sql/pglite: npm install @electric-sql/pglite",
    cause
  })

const doesNotStart = (dataDir: string | undefined, cause: unknown) =>
  new StoreError({
    reason: "Unexpected",
    operation: "openEmbedded",
    message:
      dataDir === undefined
        ? "the embedded database does not start"
        : `the embedded database in ${dataDir} does not start: if the folder holds nothing you need, delete it`,
    cause
  })
