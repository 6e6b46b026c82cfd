/**
 * The database identifiers of Polyqueue, validated in this one place and quoted anyway. Nothing else that reaches a
 * statement's text comes from outside: all values are bound parameters.
 */
import * as Result from "effect/Result"
import { StoreError } from "../../JobError.ts"

/** Where the tables are. */
export interface NamesOptions {
  /** Default `polyqueue`; made by the migrations when it is missing. */
  readonly schema?: string | undefined
  /** Tables are called `<prefix>_jobs` and so on. Default `polyqueue`. */
  readonly prefix?: string | undefined
}

/** Quoted, schema-qualified names, ready for a statement's text. */
export interface Names {
  readonly schema: string
  readonly prefix: string
  readonly jobs: string
  readonly attempts: string
  readonly workers: string
  readonly queues: string
  readonly audit: string
  readonly concurrency: string
  readonly stats: string
  readonly migrations: string
  /** The name of an index or constraint, quoted; Postgres keeps it in the schema of its table. */
  readonly local: (name: string) => string
  /** A further table of ours, quoted and qualified. */
  readonly table: (name: string) => string
}

const valid = /^[a-z_][a-z0-9_]{0,40}$/

/** An identifier, quoted. Fails with reason `Refused` when it is not plain lower case, digits and underscores. */
export const quote = (what: string, name: string): Result.Result<string, StoreError> =>
  valid.test(name)
    ? Result.succeed(`"${name}"`)
    : Result.fail(
        new StoreError({
          reason: "Refused",
          operation: "names",
          message:
            `the ${what} ${JSON.stringify(name.slice(0, 100))} cannot be used: ` +
            "take at most 41 lower-case letters, digits and underscores, not beginning with a digit"
        })
      )

/** Validates and quotes. Fails as `quote` does. */
export const make = (options: NamesOptions = {}): Result.Result<Names, StoreError> => {
  const schema = options.schema ?? "polyqueue"
  const prefix = options.prefix ?? "polyqueue"
  for (const [what, name] of [
    ["schema", schema],
    ["table prefix", prefix]
  ] as const) {
    const quoted = quote(what, name)
    if (Result.isFailure(quoted)) return Result.fail(quoted.failure)
  }
  const table = (name: string) => `"${schema}"."${prefix}_${name}"`
  return Result.succeed({
    schema,
    prefix,
    jobs: table("jobs"),
    attempts: table("attempts"),
    workers: table("workers"),
    queues: table("queues"),
    audit: table("audit"),
    concurrency: table("concurrency"),
    stats: table("stats"),
    migrations: table("migrations"),
    local: (name) => `"${prefix}_${name}"`,
    table
  })
}
