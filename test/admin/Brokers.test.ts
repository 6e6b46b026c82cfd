/** The control plane over every broker, on a real Postgres. */
import { stacks } from "../endToEnd/Stacks.ts"
import { describePostgres } from "../support/Postgres.ts"
import { describeOwnRedis } from "../support/Redis.ts"
import { suite } from "./suite.ts"

describePostgres("Postgres", () => {
  suite("the in-process broker", stacks.memory().live)
  suite("plain Postgres", stacks.postgres().live)
  suite("PGMQ", stacks.pgmq().live)
  suite("SQS", stacks.sqs().live)
  suite("Service Bus", stacks.serviceBus().live)
  describeOwnRedis("and Redis", () => {
    suite("Redis", stacks.redis().live)
  })
})
