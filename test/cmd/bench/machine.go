package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// machine is where the numbers come from.
type machine struct {
	processor, memory, kernel, goVersion string
	cores                                int
}

func readMachine() machine {
	return machine{
		processor: fileField("/proc/cpuinfo", "model name"),
		memory:    gibibytes(fileField("/proc/meminfo", "MemTotal")),
		kernel:    strings.TrimSpace(readText("/proc/sys/kernel/osrelease")),
		goVersion: runtime.Version(),
		cores:     runtime.NumCPU(),
	}
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores; memory %s; Linux %s; %s", m.processor, m.cores, m.memory, m.kernel, m.goVersion)
}

// fileField finds the value of "name: value" in a file of /proc.
func fileField(file, name string) string {
	for line := range strings.Lines(readText(file)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// gibibytes turns the kB of /proc, which are KiB, into something readable.
func gibibytes(text string) string {
	var kibibytes float64
	if _, err := fmt.Sscanf(text, "%f kB", &kibibytes); err != nil {
		return text
	}
	return fmt.Sprintf("%.1f GiB", kibibytes/(1<<20))
}

// readText gives a file's text, or "unknown": a description that lacks a part
// is no reason to throw away an hour of results.
func readText(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	return string(text)
}
