/** `polyqueue migrate`: brings the tables to the version of this code, shows their state, or prints the SQL for somebody else. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Migrations from "../Migrations.ts"
import * as Deployment from "./Deployment.ts"
import { CliFailure, ExitCode } from "./Failure.ts"
import * as Output from "./Output.ts"

const up = Effect.gen(function* () {
  const { database, names } = yield* Deployment.connection
  const { from, to } = yield* Migrations.migrate(names).pipe(Effect.provide(database))
  const where = `${names.schema}.${names.prefix}_*`
  yield* Console.log(
    from === to ? `${where}: nothing to do, version ${to}` : `${where}: migrated from version ${from} to ${to}`
  )
})

const sqlFlag = Flag.Boolean("sql").pipe(
  Flag.withDescription("Print the statements instead of running them; connects to nothing"),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

const from = Flag.Int("from").pipe(
  Flag.filter(
    (value) => value >= 0 && value <= Migrations.version,
    (value) => `Expected 0 to ${Migrations.version}, got ${value}`
  ),
  Flag.withDescription("With --sql: the version the tables have, 0 for none"),
  Flag.withDefault(0)
)

const printSql = Effect.fnUntraced(function* (from: number) {
  const names = yield* Deployment.tableNames
  yield* Console.log((yield* Effect.fromResult(Migrations.statements({ ...names, from }))).trimEnd())
})

const rolesFlag = Flag.Boolean("roles").pipe(
  Flag.withDescription(
    "Print the SQL of roles of least privilege (owner, worker, producer, viewer); connects to nothing"
  ),
  Flag.withoutNegation,
  Flag.withDefault(false)
)

const printRoles = Effect.gen(function* () {
  const names = yield* Deployment.tableNames
  yield* Console.log((yield* Effect.fromResult(Migrations.roles(names))).trimEnd())
})

const upCommand = Command.make("up", {}, () => up).pipe(
  Command.withDescription(
    "Brings the tables to the version of this code. Safe to run by many processes at once; needs rights to create only when " +
      "there is something to do."
  ),
  Command.withShortDescription("Bring the tables up to date")
)

const statusCommand = Command.make(
  "status",
  { output: Output.flag },
  Effect.fnUntraced(function* ({ output }) {
    const { database, names } = yield* Deployment.connection
    const status = yield* Migrations.status(names).pipe(Effect.provide(database))
    const isBehind =
      status.current <= status.version && status.migrations.some(({ appliedAt }) => appliedAt === undefined)
    const screen = yield* Output.screen
    yield* Output.print(
      Output.linesOf(
        output,
        {
          kind: "migrations",
          rows: status.migrations,
          columns: (style) => [
            { title: "VERSION", cell: ({ version }) => version, align: "right" },
            { title: "NAME", cell: ({ name }) => name },
            {
              title: "APPLIED",
              cell: ({ appliedAt }) => (appliedAt === undefined ? "no" : (Output.instant(appliedAt) ?? "-")),
              paint: ({ appliedAt }) => (appliedAt === undefined ? style.warning : undefined)
            }
          ],
          toJson: ({ appliedAt, name, version }) => ({ version, name, appliedAt: Output.instant(appliedAt) }),
          extra: { schema: names.schema, prefix: names.prefix, current: status.current, version: status.version },
          empty: ""
        },
        screen
      )
    )
    if (isBehind) {
      return yield* new CliFailure({
        code: ExitCode.problems,
        message: `the tables have version ${status.current}, this code needs ${status.version}: run \`polyqueue migrate up\``
      })
    }
  })
).pipe(
  Command.withDescription("Which migrations the tables have. Changes nothing. Exit code 5 when the tables are behind."),
  Command.withShortDescription("Which migrations the tables have")
)

export const command = Command.make("migrate", { sql: sqlFlag, from, roles: rolesFlag }, ({ from, roles, sql }) =>
  roles ? printRoles : sql ? printSql(from) : up
).pipe(
  Command.withDescription(
    "Makes and upgrades the tables (the same as `migrate up`). They are in POLYQUEUE_TABLE_SCHEMA under POLYQUEUE_TABLE_PREFIX."
  ),
  Command.withShortDescription("Make and upgrade the tables"),
  Command.withExamples([
    { command: "polyqueue migrate", description: "Bring the tables up to date" },
    { command: "polyqueue migrate status", description: "Exit code 5 when they are behind: for a deploy" },
    { command: "polyqueue migrate --sql > schema.sql", description: "For a role that may not create tables" },
    { command: "polyqueue migrate --roles | psql", description: "After a migration: what each role may do" }
  ]),
  Command.withSubcommands([upCommand, statusCommand])
)
