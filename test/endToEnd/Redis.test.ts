import { describePostgres } from "../support/Postgres.ts"
import { describeOwnRedis } from "../support/Redis.ts"
import { stacks } from "./Stacks.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres and Redis", () => {
  describeOwnRedis("a Redis server", () => {
    const { live, sql } = stacks.redis()
    suite("redis", live, { sql })
  })
})
