package e2e

import "syscall"

// endWithParent keeps a child from outliving tests that were killed.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
