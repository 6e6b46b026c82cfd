/** `polyqueue admin`: acts on jobs, queues and workers. Everything it does is in the audit log. */
import * as Command from "effect/cli/Command"
import * as Operator from "../Operator.ts"
import * as JobActions from "./JobActions.ts"
import * as Pauses from "./Pauses.ts"
import * as Workers from "./Workers.ts"

export const command = Command.make("admin").pipe(
  Command.withDescription(
    "Acts on jobs, queues and workers, on every broker alike. Everything is in the audit log: see `inspect audit`."
  ),
  Command.withShortDescription("Act on jobs, queues and workers"),
  Command.withSubcommands([
    {
      group: "Jobs",
      commands: [JobActions.requeue, JobActions.fail, JobActions.cancel, JobActions.runNow, JobActions.purge]
    },
    { group: "Queues", commands: [Pauses.pause, Pauses.resume] },
    { group: "Workers", commands: [Workers.drain, Workers.undrain, Workers.stop, Workers.concurrency] }
  ]),
  Command.provide(Operator.layer)
)
