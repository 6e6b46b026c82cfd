/**
 * `doctor`: are the tables there, up to date and whole? Which indexes and constraints there must be is read from the
 * migrations themselves.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { SqlClient } from "effect/sql/SqlClient"
import * as Migrations from "../../Migrations.ts"
import type { Names } from "../../store/postgres/Names.ts"
import { type Check, type Finding, ok, orOk, problem, warning } from "./Finding.ts"

const version: Check = ({ fix, names, sql }) =>
  Effect.gen(function* (): Effect.fn.Return<ReadonlyArray<Finding>, Effect.Error<ReturnType<Check>>> {
    const provided = Effect.provideService(SqlClient, sql)
    const status = yield* provided(Migrations.status(names))
    const missing = status.migrations.filter(({ appliedAt }) => appliedAt === undefined)
    if (status.current > status.version) {
      return [warning("version", `the tables have version ${status.current}, this program knows ${status.version}`)]
    }
    if (missing.length === 0) return [ok("version", `version ${status.current}, up to date`)]
    const message = `version ${status.current}, this program needs ${status.version}`
    if (!fix) return [problem("version", message, "polyqueue migrate")]
    const { to } = yield* provided(Migrations.migrate(names))
    return [{ check: "version", verdict: "fixed", message: `${message}: migrated to ${to}` }]
  })

/** The indexes and constraints that the migrations leave: what is made, less what a later one drops. */
const expected = (names: Names) => {
  const text = Result.getOrThrow(Migrations.statements({ schema: names.schema, prefix: names.prefix }))
  const left = { index: new Set<string>(), constraint: new Set<string>() }
  const spoken =
    /create (?:unique )?index (?:if not exists )?"(?<index>[^"]+)"|drop index (?:if exists )?(?:"[^"]+"\.)?"(?<gone>[^"]+)"|(?<drop>drop )?constraint (?:if exists )?"(?<constraint>[^"]+)"/g
  for (const { groups = {} } of text.matchAll(spoken)) {
    if (groups["index"] !== undefined) left.index.add(groups["index"])
    else if (groups["gone"] !== undefined) left.index.delete(groups["gone"])
    else if (groups["constraint"] !== undefined) {
      if (groups["drop"] === undefined) left.constraint.add(groups["constraint"])
      else left.constraint.delete(groups["constraint"])
    }
  }
  return { indexes: [...left.index], constraints: [...left.constraint] }
}

const whole: Check = ({ names, read }) =>
  Effect.gen(function* () {
    const { constraints, indexes } = expected(names)
    const found = yield* read(
      `select 'index', c.relname::text, i.indisvalid and i.indisready from pg_catalog.pg_index i
          join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = $1::text
      union all
      select 'constraint', c.conname::text, c.convalidated from pg_catalog.pg_constraint c
          join pg_catalog.pg_namespace n on n.oid = c.connamespace where n.nspname = $1::text`,
      [names.schema]
    )
    const valid = new Map(found.map(([kind, name, isValid]) => [`${String(kind)} ${String(name)}`, isValid === true]))
    const look = (kind: string, name: string): ReadonlyArray<Finding> => {
      const isValid = valid.get(`${kind} ${name}`)
      if (isValid === true) return []
      return isValid === undefined
        ? [
            problem(
              "structure",
              `the ${kind} ${name} is missing`,
              "polyqueue migrate --sql shows the statement that makes it"
            )
          ]
        : [
            problem(
              "structure",
              `the ${kind} ${name} is not valid`,
              kind === "index"
                ? `reindex index concurrently "${names.schema}"."${name}"`
                : `alter table … validate constraint "${name}"`
            )
          ]
    }
    const findings = [
      ...indexes.flatMap((name) => look("index", name)),
      ...constraints.flatMap((name) => look("constraint", name))
    ]
    return orOk(findings, "structure", `${indexes.length} indexes and ${constraints.length} constraints, all valid`)
  })

/** Version first: without tables the rest has nothing to look at. */
export const check: Check = (patient) =>
  Effect.flatMap(version(patient), (findings) =>
    findings.some(({ verdict }) => verdict === "problem")
      ? Effect.succeed(findings)
      : Effect.map(whole(patient), (more) => [...findings, ...more])
  )
