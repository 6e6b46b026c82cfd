import { describePostgres } from "../support/Postgres.ts"
import { stacks } from "./Stacks.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres alone", () => {
  const { live, sql } = stacks.postgres()
  suite("a Postgres server", live, { sql })
})
