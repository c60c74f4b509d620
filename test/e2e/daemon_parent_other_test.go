//go:build !linux

package e2e

import "syscall"

// endWithParent has no means on this system: a child outlives tests that were
// killed.
func endWithParent() *syscall.SysProcAttr { return nil }
