import { describePostgres } from "../support/Postgres.ts"
import { stacks } from "./Stacks.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres and Pgmq", () => {
  const { live, sql } = stacks.pgmq()
  suite("pgmq", live, { sql })
})
