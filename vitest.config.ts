import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    reporters: ["default", "./test/support/Summary.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Two cores: a few files side by side, each with servers and schemas of its own
    maxWorkers: 2
  }
})
