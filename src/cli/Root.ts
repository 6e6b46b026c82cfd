/** The tree of commands. */
import * as Command from "effect/cli/Command"
import type * as Layer from "effect/Layer"
import * as Admin from "./admin/AdminCommand.ts"
import * as Bench from "./Bench.ts"
import * as Doctor from "./doctor/Doctor.ts"
import * as Enqueue from "./Enqueue.ts"
import * as Explain from "./Explain.ts"
import * as Inspect from "./inspect/Inspect.ts"
import * as Migrate from "./Migrate.ts"
import * as Settings from "./Settings.ts"
import * as Worker from "./Worker.ts"

/** `polyqueue`; with a layer, `worker` runs it instead of a module. */
export const make = (worker: Layer.Layer<never, unknown> | undefined) =>
  Command.make("polyqueue").pipe(
    Command.withDescription(
      "Operates a Polyqueue deployment: the database in POLYQUEUE_DB_URL holds the truth, whatever the broker. Settings are " +
        "POLYQUEUE_* variables; secrets are read from there only. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing " +
        "matched, 4 refused, 5 doctor found problems, 69 a server is unreachable."
    ),
    Command.withExamples([
      { command: "polyqueue migrate", description: "Make or upgrade the tables" },
      { command: "polyqueue inspect stats --watch", description: "How it is going" },
      {
        command: "polyqueue explain 01890a5d-ac96-774b-bcce-b302099a8057",
        description: "Why is this job not running?"
      },
      { command: "polyqueue admin requeue --status failed --dry-run", description: "What would run again?" }
    ]),
    Command.withSubcommands([
      {
        group: "Run",
        commands: [worker === undefined ? Worker.fromModule : Worker.fromLayer(worker), Migrate.command]
      },
      { group: "Look", commands: [Inspect.command, Explain.command, Settings.command, Doctor.command, Bench.command] },
      { group: "Act", commands: [Admin.command, Enqueue.command] }
    ])
  )
