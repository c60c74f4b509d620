// Command pie gives pages back and then uses types and constants.
package main

import (
	"fmt"
	"io"
	"reflect"

	"github.com/sirupsen/logrus"

	"labelstream/app/memory"
)

type thing struct{ name fmt.Stringer }

func (t thing) String() string { return "labelstream" }

func main() {
	log := logrus.New()
	log.SetOutput(io.Discard)
	memory.Save(log)
	var s fmt.Stringer = thing{}
	fmt.Println(s, reflect.TypeOf(s).NumField()+len([]any{s}))
}
