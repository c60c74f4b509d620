package ledger

const workloadVariable = "LEDGER_TEST_WORKLOAD"

func runWorkload(string) {}
