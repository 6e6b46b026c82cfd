import { describePostgres } from "../support/Postgres.ts"
import { stacks } from "./Stacks.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres and ServiceBus", () => {
  const { live, sql } = stacks.serviceBus()
  suite("serviceBus", live, { sql })
})
