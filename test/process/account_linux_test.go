// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"runtime"
	"testing"
)

func TestAccount(t *testing.T) {
	before, err := AccountOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, 64<<20)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	after, err := AccountOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.CPU <= 0 || after.CPU <= before.CPU || after.Resident < before.Resident+60<<20 || after.Peak < after.Resident {
		t.Errorf("after 64 MiB more: %+v, before: %+v", after, before)
	}
	runtime.KeepAlive(memory)
	if _, err := AccountOf(1 << 30); err == nil {
		t.Error("the account of no process is no error")
	}
}
