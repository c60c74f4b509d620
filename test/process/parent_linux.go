// SPDX-License-Identifier: Apache-2.0

package process

import "syscall"

// endWithParent keeps a child from outliving a test that was killed.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
