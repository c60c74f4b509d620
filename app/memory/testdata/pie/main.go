// SPDX-License-Identifier: Apache-2.0

// Command pie gives pages back and then uses types and constants.
package main

import (
	"fmt"
	"os"
	"reflect"

	"labelstream/app/memory"
)

type thing struct{ name fmt.Stringer }

func (t thing) String() string { return "labelstream" }

func main() {
	if err := memory.ReleaseBinary(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var s fmt.Stringer = thing{}
	fmt.Println(s, reflect.TypeOf(s).NumField()+len([]any{s}))
}
