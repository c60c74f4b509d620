// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package process

import "syscall"

// endWithParent has no means on this system: a child outlives a parent that
// was killed.
func endWithParent() *syscall.SysProcAttr { return nil }
