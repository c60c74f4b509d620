package process

import (
	"fmt"
	"os/exec"
	"runtime"
)

// Begin starts a command that, on Linux, ends with its parent. The channel gets
// the error of its Wait.
func Begin(cmd *exec.Cmd) (<-chan error, error) {
	cmd.SysProcAttr = endWithParent()
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The kernel takes the end of the thread that started a child for the
		// end of its parent, so this thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return ended, nil
}
