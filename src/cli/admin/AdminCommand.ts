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
    // Each of them and not the group, which must show its help without a database
    {
      group: "Jobs",
      commands: [
        Command.provide(JobActions.requeue, Operator.layer),
        Command.provide(JobActions.fail, Operator.layer),
        Command.provide(JobActions.cancel, Operator.layer),
        Command.provide(JobActions.runNow, Operator.layer),
        Command.provide(JobActions.purge, Operator.layer)
      ]
    },
    {
      group: "Queues",
      commands: [Command.provide(Pauses.pause, Operator.layer), Command.provide(Pauses.resume, Operator.layer)]
    },
    {
      group: "Workers",
      commands: [
        Command.provide(Workers.drain, Operator.layer),
        Command.provide(Workers.undrain, Operator.layer),
        Command.provide(Workers.stop, Operator.layer),
        Command.provide(Workers.concurrency, Operator.layer)
      ]
    }
  ])
)
