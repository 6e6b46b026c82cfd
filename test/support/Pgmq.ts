/**
 * pgmq 1.11.1 for tests. Its SQL comes from the npm package that carries it for PGlite, because no server here has the
 * extension's files: on a server it is pgmq's "SQL-only installation", on PGlite `create extension`.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { PGlite } from "@electric-sql/pglite"
import { pgmq } from "@electric-sql/pglite-pgmq"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { gunzipSync } from "node:zlib"
import { Wire } from "../../src/store/pglite/Wire.ts"

const VERSION = "1.11.1"
const BLOCK = 512

/** One file of a tar archive. */
const fileOf = (tar: Buffer, ending: string): string => {
  for (let at = 0; at + BLOCK <= tar.length;) {
    const name = tar.toString("utf8", at, at + 100).replace(/\0.*$/s, "")
    const size = Number.parseInt(tar.toString("utf8", at + 124, at + 136), 8)
    if (name.endsWith(ending)) return tar.toString("utf8", at + BLOCK, at + BLOCK + size)
    at += BLOCK + Math.ceil((Number.isNaN(size) ? 0 : size) / BLOCK) * BLOCK
  }
  throw new Error(`the archive holds no ${ending}`)
}

const installation = (): string => {
  const main = createRequire(import.meta.url).resolve("@electric-sql/pglite-pgmq")
  return fileOf(gunzipSync(readFileSync(join(dirname(main), "pgmq.tar.gz"))), `/pgmq--${VERSION}.sql`)
}

/** Installs pgmq in the database of the ambient client: one statement, since the driver sends one at a time. */
export const installPgmq = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`do $wrapper$ begin execute $installation$${installation()}$installation$; end $wrapper$`)
    .unprepared
})

/** A client on a PGlite of its own, with the extension. */
export const layerPglitePgmq = PgClient.layerFrom(
  Effect.gen(function* () {
    const db = yield* Effect.acquireRelease(
      Effect.promise(() => PGlite.create({ extensions: { pgmq } })),
      (db) => Effect.promise(() => db.close())
    )
    yield* Effect.promise(() => db.exec("create extension pgmq"))
    const wire = yield* Effect.acquireRelease(
      Effect.sync(() => new Wire(db, () => () => undefined)),
      (wire) => Effect.promise(() => wire.close())
    )
    return yield* PgClient.make({ stream: () => wire.connect(), username: "postgres", prepare: false })
  })
)
