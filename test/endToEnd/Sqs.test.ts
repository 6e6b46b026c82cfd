import { describePostgres } from "../support/Postgres.ts"
import { stacks } from "./Stacks.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres and Sqs", () => {
  const { live, sql } = stacks.sqs()
  suite("sqs", live, { sql })
})
