/** `polyqueue inspect`: looks, and changes nothing. */
import * as Command from "effect/cli/Command"
import * as Operator from "../Operator.ts"
import * as Attempts from "./Attempts.ts"
import * as Audit from "./Audit.ts"
import * as Job from "./Job.ts"
import * as Jobs from "./Jobs.ts"
import * as Queues from "./Queues.ts"
import * as Stats from "./Stats.ts"
import * as Workers from "./Workers.ts"

export const command = Command.make("inspect").pipe(
  Command.withDescription("Looks at jobs, queues and workers, and changes nothing."),
  Command.withShortDescription("Look at jobs, queues and workers"),
  Command.withSubcommands([
    // Each of them and not the group, which must show its help without a database
    Command.provide(Stats.command, Operator.layer),
    Command.provide(Queues.command, Operator.layer),
    Command.provide(Workers.command, Operator.layer),
    Command.provide(Jobs.command, Operator.layer),
    Command.provide(Job.command, Operator.layer),
    Command.provide(Attempts.command, Operator.layer),
    Command.provide(Audit.command, Operator.layer)
  ])
)
