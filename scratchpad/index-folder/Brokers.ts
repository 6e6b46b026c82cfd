/**
 * The brokers that `npm start -- --broker` can choose from: one value each, and nothing else in the program knows which.
 */
import { Broker } from "../../src/index.ts"

export const brokers = {
  memory: Broker.layerMemory,
  postgres: Broker.layerPostgres
}

export type BrokerName = keyof typeof brokers
