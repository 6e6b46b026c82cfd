/** `polyqueue doctor`: is this deployment sound? Each finding with what to do; `--fix` does what is safe. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SqlClient } from "effect/sql/SqlClient"
import { Broker } from "../../Broker.ts"
import * as PolyqueueConfig from "../../config/PolyqueueConfig.ts"
import * as Transport from "../../config/Transport.ts"
import { variables } from "../../config/Variables.ts"
import { JobStore } from "../../JobStore.ts"
import { make as makeNames } from "../../store/postgres/Names.ts"
import * as Deployment from "../Deployment.ts"
import { CliFailure, ExitCode, fromConfigError } from "../Failure.ts"
import * as Output from "../Output.ts"
import * as Sql from "../Sql.ts"
import type { Style } from "../Style.ts"
import { type Check, type Finding, guarded, orOk, type Patient, problem, type Verdict, warning } from "./Finding.ts"
import * as Fleet from "./Fleet.ts"
import * as Rows from "./Rows.ts"
import * as Server from "./Server.ts"
import * as Tables from "./Tables.ts"

/** Checks that make no sense before the tables are there. */
const onTables: ReadonlyArray<readonly [string, Check]> = [
  ["durability", Server.durability],
  ["privileges", Server.privileges],
  ["vacuum", Server.horizon],
  ["workers", Fleet.check],
  ["rows", Rows.check]
]

/** Whether the broker of the settings can be reached and is sound. Without it jobs run all the same, later. */
const broker = Effect.fnUntraced(function* (layer: Deployment.Connection["broker"], name: string) {
  const health = yield* Effect.flatMap(Broker, (broker) => broker.health).pipe(
    Effect.provide(layer),
    Effect.timeoutOrElse({
      duration: "15 seconds",
      orElse: () => Effect.succeed({ ok: false, problems: ["it did not answer within 15 seconds"] })
    }),
    Effect.catch((error) => Effect.succeed({ ok: false, problems: [error.message] }))
  )
  return orOk(
    health.problems.map((message) => problem("broker", `${name}: ${message}`)),
    "broker",
    `${name}: healthy`
  )
})

const settings = Effect.gen(function* () {
  const unknown = yield* Effect.mapError(PolyqueueConfig.unknownVariables, fromConfigError)
  return orOk(
    unknown.map((message) => warning("settings", message)),
    "settings",
    "all POLYQUEUE_* variables are known and valid"
  )
})

/** Whether what goes to other machines can be read on its way. */
const transport = (connection: Deployment.Connection) =>
  orOk(
    Transport.plain(connection.settings).map(({ fix, key }) =>
      warning("tls", `${variables[key].name} names another machine and does not insist on TLS`, fix)
    ),
    "tls",
    "every connection stays on this machine or insists on TLS"
  )

const examine = Effect.fnUntraced(function* (connection: Deployment.Connection, fix: boolean) {
  const sql = yield* SqlClient
  const names = yield* Effect.fromResult(makeNames(connection.names))
  const patient: Patient = {
    sql,
    names,
    store: yield* JobStore,
    settings: connection.settings,
    fix,
    read: (text, params) => Sql.run(sql, "doctor", text, params)
  }
  const findings: Array<Finding> = [...(yield* settings), ...transport(connection)]
  for (const [name, check] of [
    ["server", Server.server],
    ["clock", Server.clock],
    ["tables", Tables.check]
  ] as const) {
    findings.push(...(yield* guarded(name, check(patient))))
  }
  if (findings.some(({ check, verdict }) => (check === "version" || check === "tables") && verdict === "problem")) {
    return findings
  }
  for (const [name, check] of onTables) findings.push(...(yield* guarded(name, check(patient))))
  findings.push(...(yield* broker(connection.broker, connection.settings.backend)))
  return findings
})

const paint = (style: Style, verdict: Verdict) => {
  switch (verdict) {
    case "ok":
    case "fixed":
      return style.good
    case "warning":
      return style.warning
    case "problem":
      return style.bad
  }
}

/** What the findings come to, in one line. */
const summary = (findings: ReadonlyArray<Finding>): string => {
  const count = (verdict: Verdict) => findings.filter((finding) => finding.verdict === verdict).length
  const parts = (["problem", "warning", "fixed"] as const).flatMap((verdict) => {
    const number = count(verdict)
    const plural = verdict === "fixed" || number === 1 ? verdict : `${verdict}s`
    return number === 0 ? [] : [`${number} ${plural}`]
  })
  return parts.length === 0 ? "all is well" : parts.join(", ")
}

export const command = Command.make(
  "doctor",
  {
    fix: Flag.Boolean("fix").pipe(
      Flag.withDescription("Repair what can be repaired safely beside running workers: migrate, reap, publish"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    output: Output.flag
  },
  Effect.fnUntraced(function* ({ fix, output }) {
    const connection = yield* Deployment.connection
    const layer = JobStore.layerPostgresWith(connection.names).pipe(Layer.provideMerge(connection.database))
    const findings = yield* examine(connection, fix).pipe(Effect.provide(layer))
    const screen = yield* Output.screen
    yield* Output.print(
      Output.linesOf(
        output,
        {
          kind: "findings",
          rows: findings,
          columns: (style) => [
            { title: "CHECK", cell: ({ check }) => check },
            { title: "VERDICT", cell: ({ verdict }) => verdict, paint: ({ verdict }) => paint(style, verdict) },
            {
              title: "FINDING",
              cell: ({ fix, message }) => (fix === undefined ? message : `${message}. To do: ${fix}`)
            }
          ],
          toJson: ({ check, fix, message, verdict }) => ({ check, verdict, message, fix: fix ?? null }),
          extra: { summary: summary(findings) },
          empty: "",
          footer: () => ["", summary(findings)]
        },
        screen
      )
    )
    if (findings.some(({ verdict }) => verdict === "problem")) {
      return yield* new CliFailure({ code: ExitCode.problems, message: "" })
    }
  })
).pipe(
  Command.withDescription(
    "Checks settings, TLS, server, clock, tables, durability, privileges, workers, rows that should not exist, and the broker; says " +
      "what to do about each finding. Exit code 5 when there is a problem; warnings are none."
  ),
  Command.withShortDescription("Is this deployment sound?"),
  Command.withExamples([
    { command: "polyqueue doctor" },
    {
      command: "polyqueue doctor --fix",
      description: "Migrate, reap what nobody reaps, publish what nobody publishes"
    },
    { command: "polyqueue doctor -o json | jq '.findings[] | select(.verdict != \"ok\")'" }
  ])
)
