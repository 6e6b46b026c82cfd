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
  Command.withSubcommands([
    Stats.command,
    Queues.command,
    Workers.command,
    Jobs.command,
    Job.command,
    Attempts.command,
    Audit.command
  ]),
  Command.provide(Operator.layer)
)
